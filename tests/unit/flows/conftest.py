"""A store of one's own and a pipeline of fake stages."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from flows.build import Builder
from flows.dag import Stage
from flows.launch import STOP
from flows.observe import Observer
from flows.settings import PROJECT_ROOT, Settings

sys.path.insert(0, str(PROJECT_ROOT))  # so that the fake program is importable by its dotted name

from tests.unit.flows.fake_program import FakeConfig


class FakeStage(Stage):
    """A stage whose program is the fake one."""

    @property
    def module(self) -> str:
        return "tests.unit.flows.fake_program"


class Recorder(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []
        self.text = ""

    def started(self, stage: str, message: str) -> None:
        self.events.append(("started", stage, message))

    def log(self, stage: str, text: str, urgent: bool) -> None:
        self.text += text + "\n"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make_builder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Builder]:
    """``make_builder(first={"text": "x"}, forced={"first"})``: a builder over fake configs."""
    monkeypatch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "0" * 64}, False))

    def make(forced: set[str] = frozenset(), reuse: dict[str, str] | None = None, **configs: Any) -> Builder:
        known = {stage: FakeConfig(**values) for stage, values in configs.items()}
        return Builder(Store.open(), Settings(), known, "demo", forced=frozenset(forced), reuse=reuse or {})

    return make


@pytest.fixture(autouse=True)
def _fresh_stop() -> Iterator[None]:
    STOP.pulls = 0
    yield
    STOP.pulls = 0


FIRST = FakeStage("first", "fake", "tokenizer")
SECOND = FakeStage("second", "fake", "base", {"tokenizer": "first"})


@pytest.fixture
def first() -> Stage:
    return FIRST


@pytest.fixture
def second() -> Stage:
    return SECOND


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    rc: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``cli("art", "ls", rc=0)``: one command, in this process."""
    from flows.cli import main

    def run(*arguments: str, rc: int = 0) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        said = capsys.readouterr()
        assert end.value.code == rc, f"{arguments}: {said}"
        return Ended(rc, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose store holds tokenizer/demo@v1, base/demo@v1 made from it, and tokenizer/demo@v2."""
    folder = tmp_path_factory.mktemp("made") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_HOME", str(folder))
        patch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "0" * 64}, False))
        configs = {"first": FakeConfig(), "second": FakeConfig()}
        builder = Builder(Store.open(), Settings(), configs, "demo")
        made = builder.build(builder.work(FIRST, {}), Observer())
        builder.build(builder.work(SECOND, {"tokenizer": made}), Observer())
        other = Builder(builder.store, Settings(), {"first": FakeConfig(text="other")}, "demo")
        other.build(other.work(FIRST, {}), Observer())
    return folder


@pytest.fixture
def small_home(home: Path, made_once: Path) -> Path:
    """A copy of that home, which is NANOCHAT_HOME."""
    return Path(shutil.copytree(made_once, home, symlinks=True))


@pytest.fixture
def damage() -> Callable[..., Path]:
    """``damage("base/demo@v1", "payload.txt")``: other bytes of the same size in that file's blob."""

    def change(ref: str, file: str) -> Path:
        store = Store.open(create=False)
        entry = store.resolve(ref)[1].all_files()[file]
        blob = store.backend.local_path(f"blobs/sha256/{entry.sha256[:2]}/{entry.sha256}")
        assert blob is not None
        blob.chmod(0o644)
        blob.write_bytes(bytes(entry.size))
        return blob

    return change
