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


def survives(seed: int, payload: Path, make) -> bool:
    """An artifact that nothing refers to any more is collected while another one with its bytes is made."""
    backend = JitteryBackend(seed)
    store = Store(backend)
    old = store.commit(make.draft(1), payload).manifest
    backend.delete(layout.fingerprint("base", old.fingerprint))
    backend.now += 2 * GRACE_S
    gc = threading.Thread(target=store.gc, kwargs={"grace_s": GRACE_S})
    push = threading.Thread(target=store.commit, args=(make.draft(2), payload), kwargs={"name": "demo"})
    for thread in random.Random(seed).sample([gc, push], 2):
        thread.start()
    gc.join()
    push.join()
    return store.resolve("base/demo")[1].fingerprint == make.draft(2).fingerprint and store.verify() == []


@pytest.mark.criterion("T49")
def test_no_interleaving_loses_a_blob(tmp_path: Path, make) -> None:
    payload = make.files(tmp_path / "payload", 0)
    assert [seed for seed in range(200) if not survives(seed, payload, make)] == []


@pytest.mark.criterion("T49")
def test_without_the_lease_this_harness_loses_some(
    tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = make.files(tmp_path / "payload", 0)
    monkeypatch.setattr(commit_module, "keep", lambda store, keys: set(keys))
    assert not all(survives(seed, payload, make) for seed in range(50))
