"""gc beside commits: what a commit refers to is never removed, whoever is faster."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts import commit as commit_module
from artifacts import layout
from artifacts.backends.memory import MemoryBackend
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft
from artifacts.store import Store

GRACE_S = 3600.0


class JitteryBackend(MemoryBackend):
    """Every call comes a little later, by chance, so that two threads meet in ever new orders."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self._rng = random.Random(seed)
        super().__init__(clock=lambda: self.now)

    @contextmanager
    def _call(self, verb: str, key: str | None) -> Iterator[None]:
        time.sleep(self._rng.random() * 0.001)
        with super()._call(verb, key):
            yield


def draft(number: int) -> Draft:
    payload = recipe("base", 1, {"number": number}, inputs={}, modules={})
    return Draft(stage="base", kind="base", fingerprint=sha256_json(payload), recipe=payload)


def survives(seed: int, payload: Path) -> bool:
    """An artifact that nothing refers to any more is collected while another one with its bytes is made."""
    backend = JitteryBackend(seed)
    store = Store(backend)
    old = store.commit(draft(1), payload).manifest
    backend.delete(layout.fingerprint("base", old.fingerprint))
    backend.now += 2 * GRACE_S
    gc = threading.Thread(target=store.gc, kwargs={"grace_s": GRACE_S})
    push = threading.Thread(target=store.commit, args=(draft(2), payload), kwargs={"name": "demo"})
    for thread in random.Random(seed).sample([gc, push], 2):
        thread.start()
    gc.join()
    push.join()
    return store.resolve("base/demo")[1].fingerprint == draft(2).fingerprint and store.verify() == []


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    folder = tmp_path / "payload"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.criterion("T49")
def test_no_interleaving_loses_a_blob(payload: Path) -> None:
    assert [seed for seed in range(200) if not survives(seed, payload)] == []


@pytest.mark.criterion("T49")
def test_without_the_lease_this_harness_loses_some(payload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "keep", lambda store, keys: set(keys))
    assert not all(survives(seed, payload) for seed in range(50))
