"""A store of one's own and a pipeline of fake stages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


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
