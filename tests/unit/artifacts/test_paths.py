from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artifacts import paths
from artifacts.errors import UsageError

HOSTILE = [
    "", ".", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", "a\0b", "%2e%2e/x", "a/\u2024\u2024/b",
    "\uff0e\uff0e", "C:\\x", "a\\b", "~/x", "-x", ".hidden", "a\nb", "a/.tmp-1", "x" * 300,
    "a" * 65 + "/" + "." * 3, "a b",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_paths_and_names_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        paths.segment(text)
    with pytest.raises(UsageError):
        paths.relative_path(text)
    with pytest.raises(UsageError):
        paths.safe_join(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["model.safetensors", "pretrain/shard_00000.parquet", "run/v1+b=2.json", "README"]
)
def test_ordinary_files_are_allowed(text: str, tmp_path: Path) -> None:
    assert paths.safe_join(tmp_path, text) == tmp_path / text


SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+=-]{0,126}[A-Za-z0-9_+=-])?")
PARTS = st.one_of(
    st.text(st.sampled_from("aZ0_.+=-/~ \n\0é"), max_size=6),
    st.builds(lambda length, end: "a" * length + end, st.integers(120, 130), st.sampled_from(["", ".", "-"])),
)


@given(st.lists(PARTS, max_size=10))
@example(["a" * 128])
@example(["a" * 129])
def test_a_path_is_legal_if_it_is_not_too_long_and_each_of_its_segments_is(parts: list[str]) -> None:
    text = "/".join(parts)
    legal = len(text) <= 1024 and all(SEGMENT.fullmatch(part) for part in text.split("/"))
    assert paths.is_relative_path(text) is legal


@pytest.mark.parametrize(("length", "legal"), [(1024, True), (1025, False)])
def test_a_path_is_no_longer_than_s3_allows(length: int, legal: bool) -> None:
    assert paths.is_relative_path(("a" * 99 + "/") * 10 + "b" * (length - 1000)) is legal


@given(st.text(st.sampled_from("ab./\\%-_~\0:\u2024 "), max_size=20))
def test_a_joined_path_stays_inside(text: str) -> None:
    root = Path("/store/root")
    try:
        joined = paths.safe_join(root, text)
    except UsageError:
        return
    assert joined.is_relative_to(root)
    assert ".." not in joined.parts


def test_a_symbolic_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError):
        paths.safe_join(tmp_path / "root", "link/x")


def test_home_follows_the_environment_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", "/somewhere")
    assert paths.home() == Path("/somewhere")
    monkeypatch.delenv("NANOCHAT_HOME")
    assert paths.home() == Path.home() / ".cache" / "nanochat-pipeline"


def test_sha256_grammar() -> None:
    assert paths.is_sha256("0" * 64)
    assert not any(map(paths.is_sha256, ["0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n"]))
