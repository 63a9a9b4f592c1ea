"""gc by rules, beside whoever uses what expires, and killed at every step."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from artifacts import commit as commit_module
from artifacts import layout
from artifacts import store as store_module
from artifacts.backends.memory import ANY, Fault, MemoryBackend
from artifacts.errors import DataError, ResourceError
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft, Manifest, Parent
from artifacts.process import Process
from artifacts.retention import Rules
from artifacts.store import Store

DAY_S = 24 * 3600.0
LAST = Rules(keep_last=1)
SEEDS = range(30)


class Killed(BaseException):
    """The process ended here."""


class SlowBackend(MemoryBackend):
    """A clock that is set by hand; after ``seed`` each call comes a little later, by chance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rng: random.Random | None = None
        super().__init__(clock=lambda: self.now)

    @contextmanager
    def _call(self, verb: str, key: str | None) -> Iterator[None]:
        if self.rng is not None:
            time.sleep(self.rng.random() * 0.0005)
        with super()._call(verb, key):
            yield


def put(
    store: Store, folder: Path, number: int, kind: str, *parents: Manifest, force: bool = False
) -> Manifest:
    """``kind/demo`` with one file that holds the number; numbers from 100 on are recipes of their own."""
    payload = folder / f"{number % 100}"
    payload.mkdir(parents=True, exist_ok=True)
    (payload / "file").write_text(f"{kind} {number % 100}")
    identity = recipe(kind, 1, {"number": number}, inputs={}, modules={})
    made_from = tuple(
        Parent(role="r", ref="its parent", digest=parent.digest, manifest=parent.hex) for parent in parents
    )
    draft = Draft(
        stage=kind, kind=kind, fingerprint=sha256_json(identity), recipe=identity, parents=made_from
    )
    return store.commit(draft, payload, name="demo", replace_fingerprint=force).manifest


def filled(folder: Path) -> tuple[Store, SlowBackend, Manifest]:
    """shards, tokenizer made from it, base made from that: two versions each. All are old."""
    backend = SlowBackend()
    store, made = Store(backend), []
    for number in range(2):
        shards = put(store, folder, number, "shards")
        tokenizer = put(store, folder, number, "tokenizer", shards)
        put(store, folder, number, "base", tokenizer)
        made.append(tokenizer)
    backend.now += 30 * DAY_S
    return store, backend, made[0]


def beside(seed: int, store: Store, rules: Rules | None, action: Callable[[], object]) -> None:
    """gc, and at a random moment of it the action."""
    backend = store.backend
    assert isinstance(backend, SlowBackend)
    backend.rng, delay_s = random.Random(seed), random.Random(seed).random() * 0.05
    gc = threading.Thread(target=store.gc, kwargs={"rules": rules})
    gc.start()
    time.sleep(delay_s)
    action()
    gc.join()
    backend.rng = None


def alias_is_right(seed: int, folder: Path) -> bool:
    """An alias is set on a version while gc expires it: it is refused, or all of the version stays."""
    store, backend, _ = filled(folder)
    refused = []

    def mark() -> None:
        try:
            store.set_alias("base/demo@v1", "prod") if seed % 2 else store.pin("base/demo@v1")
        except ResourceError as error:
            refused.append(str(error))

    beside(seed, store, LAST, mark)
    backend.now += 2 * DAY_S
    store.gc(rules=LAST)
    versions = {str(version.ref) for version in store.list()}
    first = {"base/demo@v1", "tokenizer/demo@v1", "shards/demo@v1"}
    return store.verify() == [] and versions & first == (set() if refused else first)


@pytest.mark.criterion("T49")
def test_a_mark_beside_gc_is_refused_or_obeyed(tmp_path: Path) -> None:
    assert [seed for seed in SEEDS if not alias_is_right(seed, tmp_path)] == []


@pytest.mark.criterion("T49")
def test_without_the_lease_a_mark_dangles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "Lease", lambda *_: nullcontext())
    assert not all(alias_is_right(seed, tmp_path) for seed in range(1, 400, 2))


def child_is_right(seed: int, folder: Path) -> bool:
    """Something is made from what expired a day ago, while gc removes that: it is refused, or whole."""
    store, backend, tokenizer = filled(folder)
    store.gc(rules=LAST)
    backend.now += 2 * DAY_S
    refused = []

    def build() -> None:
        try:
            put(store, folder, 7, "sft", tokenizer)
        except DataError as error:
            refused.append(str(error))

    beside(seed, store, None, build)
    backend.now += 2 * DAY_S
    store.gc()
    manifests = {info.key for info in backend.list("manifests/")}
    whole = refused or (
        layout.manifest(tokenizer.hex) in manifests
        and layout.manifest(tokenizer.parents[0].manifest) in manifests
        and store.checkout(tokenizer, folder / "views" / str(seed)).is_dir()
    )
    return bool(whole) and store.verify() == [] and len(manifests) == (3 if refused else 6)


@pytest.mark.criterion("T49")
def test_a_child_beside_gc_is_refused_or_has_its_parents(tmp_path: Path) -> None:
    assert [seed for seed in SEEDS if not child_is_right(seed, tmp_path)] == []


@pytest.mark.criterion("T49")
def test_without_the_lease_a_child_loses_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(store: Store, keys: list[str]) -> set[str]:
        return {key for key in keys if store.backend.info(key)}

    monkeypatch.setattr(commit_module, "keep", look)

    def is_right(seed: int) -> bool:
        try:
            return child_is_right(seed, tmp_path)
        except DataError:
            return False  # the next gc cannot read the lineage

    assert not all(is_right(seed) for seed in range(200))


@pytest.mark.criterion("T49")
@pytest.mark.parametrize("force", [False, True])
def test_old_content_comes_back_while_it_expires(force: bool, tmp_path: Path) -> None:
    """The same bytes by another recipe, or by a forced rebuild: latest moves back to v1, or to a v3."""
    for seed in SEEDS:
        store, backend, _ = filled(tmp_path)
        shards = store.resolve("shards/demo")[1]
        build = partial(put, store, tmp_path, 0 if force else 100, "tokenizer", shards, force=force)
        beside(seed, store, LAST, build)
        ref, manifest = store.resolve("tokenizer/demo")
        assert str(ref) in ("tokenizer/demo@v1", "tokenizer/demo@v3"), seed
        assert store.checkout(manifest, tmp_path / "views" / str(seed)).is_dir()
        assert store.verify() == [], seed
        backend.now += 2 * DAY_S
        store.gc(rules=LAST)
        assert store.resolve("tokenizer/demo")[1].digest == manifest.digest
        assert store.verify() == [], seed


@pytest.mark.criterion("T42")
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("phase", ["expire", "remove"])
def test_the_end_of_the_process_at_each_step_of_gc(
    phase: str, applied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Process, "is_dead", lambda self: True)  # whoever held the lease was killed
    step, reached = 0, True
    while reached:
        step += 1
        store, backend, _ = filled(tmp_path)
        if phase == "remove":
            store.gc(rules=LAST)
            backend.now += 2 * DAY_S
        backend.faults.append(Fault(ANY, backend.calls[ANY] + step, applied, Killed))
        reached = False
        try:
            store.gc(rules=LAST)
        except Killed:
            reached = True
        backend.faults.clear()
        assert store.verify() == [], step
        store.gc(rules=LAST)
        assert [str(version.ref) for version in store.list()] == [
            "base/demo@v2", "shards/demo@v2", "tokenizer/demo@v2",
        ]  # fmt: skip
        assert store.verify() == [], step
        backend.now += 2 * DAY_S
        store.gc()
        assert len(list(backend.list("manifests/"))) == len(list(backend.list("blobs/"))) == 3, step
        assert store.verify() == [], step
    assert step > 40
