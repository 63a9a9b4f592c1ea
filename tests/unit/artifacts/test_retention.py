"""Rules of gc: what expires, against a model that says it in a few lines, and what becomes of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from artifacts import commit, gc, layout
from artifacts.backends.memory import MemoryBackend
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft, Manifest, Parent
from artifacts.names import Pointer
from artifacts.retention import DAY_S, Rules
from artifacts.store import Store

KINDS = ("tokenizer", "base", "sft")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A store in memory with a clock, and an easy way to put artifacts into it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.backend = MemoryBackend(clock=self.clock)
        self.store = Store(self.backend)
        self._folder, self._count = folder, 0

    def put(
        self, ref: str, *parents: Manifest, name: bool = True, files: dict[str, str] | None = None
    ) -> Manifest:
        kind, _, called = ref.partition("/")
        self._count += 1
        payload = self._folder / str(self._count)
        payload.mkdir(parents=True)
        for path, text in (files or {"file": str(self._count)}).items():
            (payload / path).write_text(text)
        identity = recipe(kind, 1, {"number": self._count}, inputs={}, modules={})
        draft = Draft(
            stage=kind, kind=kind, fingerprint=sha256_json(identity), recipe=identity,
            parents=tuple(
                Parent(role="r", ref="somewhere", digest=parent.digest, manifest=parent.hex)
                for parent in parents
            ),
        )  # fmt: skip
        return self.store.commit(draft, payload, name=called if name else None).manifest

    def names(self) -> list[str]:
        return [str(version.ref) for version in self.store.list()]

    def expired(self, *, dry_run: bool = False, **rules: object) -> list[str]:
        report = self.store.gc(rules=Rules(**rules), dry_run=dry_run)
        return [ref for item in report.expired for ref in item.refs]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "payloads")


@dataclass
class Item:
    """A version as the model sees it."""

    kind: str
    name: str
    number: int
    day: float
    parents: list[int] = field(default_factory=list)


def model(items: list[Item], marked: set[int], rules: Rules, today: float) -> set[int]:
    """Indices of what stays, in the words of the documentation."""
    stays = set()
    for index, item in enumerate(items):
        higher = [o for o in items if (o.kind, o.name) == (item.kind, item.name) and o.number > item.number]
        if (
            index in marked
            or not higher
            or (rules.only and item.kind not in rules.only)
            or (rules.keep_last is not None and len(higher) < rules.keep_last)
            or (rules.keep_days is not None and today - item.day <= rules.keep_days)
        ):
            stays.add(index)
    pending = list(stays)
    while pending:
        for parent in items[pending.pop()].parents:
            if parent not in stays:
                stays.add(parent)
                pending.append(parent)
    return stays


@pytest.mark.parametrize("seed", range(60))
def test_what_expires_is_what_the_model_says(seed: int, shelf: Shelf) -> None:
    rng = random.Random(seed)
    items: list[Item] = []
    manifests: list[Manifest] = []
    for _ in range(rng.randint(3, 14)):
        kind, name = rng.choice(KINDS), rng.choice("ab")
        number = 1 + sum((item.kind, item.name) == (kind, name) for item in items)
        parents = rng.sample(range(len(items)), min(len(items), rng.choice([0, 0, 1, 2])))
        manifests.append(shelf.put(f"{kind}/{name}", *(manifests[parent] for parent in parents)))
        items.append(Item(kind, name, number, shelf.clock.now / DAY_S, parents))
        shelf.clock.now += rng.choice([0.1, 1, 5]) * DAY_S
    marked = set(rng.sample(range(len(items)), rng.choice([0, 1, 2])))
    for index in marked:
        ref = f"{items[index].kind}/{items[index].name}@v{items[index].number}"
        shelf.store.pin(ref) if rng.random() < 0.5 else shelf.store.set_alias(ref, "prod")
    rules = Rules(
        rng.choice([None, 1, 2, 3]) if seed % 3 else rng.choice([1, 2]),
        rng.choice([None, 0, 3, 10]),
        rng.choice([(), (), ("base",), ("base", "sft")]) if seed % 3 == 0 else (),
    )
    stays = model(items, marked, rules, shelf.clock.now / DAY_S) if rules else set(range(len(items)))
    planned = shelf.store.gc(rules=rules, dry_run=True)
    assert len(shelf.names()) == len(items)
    done = shelf.store.gc(rules=rules)
    assert (done.expired, done.later, done.later_bytes) == (
        planned.expired, planned.later, planned.later_bytes,
    )  # fmt: skip
    left = {f"{items[index].kind}/{items[index].name}@v{items[index].number}" for index in stays}
    assert set(shelf.names()) == left
    assert done.removed == ()
    assert shelf.store.verify() == []
    shelf.clock.now += 2 * DAY_S
    swept = shelf.store.gc()
    assert (swept.removed, swept.bytes) == (planned.later, planned.later_bytes)
    assert shelf.store.verify() == []
    for index, manifest in enumerate(manifests):  # an artifact that expired is gone, or is an ancestor
        key = layout.manifest(manifest.hex)
        assert (shelf.backend.info(key) is not None) == (index in stays), items[index]
        found = shelf.store.lookup(manifest.stage, manifest.fingerprint)
        assert (found is not None) == (index in stays)


def test_without_a_rule_every_version_stays(shelf: Shelf) -> None:
    for _ in range(3):
        shelf.put("base/demo")
    shelf.clock.now += 1000 * DAY_S
    assert shelf.expired() == []
    assert len(shelf.names()) == 3


@pytest.mark.parametrize(
    "rules", [{"keep_last": 0}, {"keep_last": -1}, {"keep_days": -1}, {"keep_days": float("nan")},
              {"only": ("base",)}],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(rules: dict) -> None:
    with pytest.raises(UsageError):
        Rules(**rules)


def test_a_number_is_never_used_twice(shelf: Shelf) -> None:
    for _ in range(3):
        shelf.put("base/demo")
    first = shelf.store.names.find("base/demo@v1")
    shelf.store.names.move(first.ref, "latest", first.pointer.digest)
    assert shelf.expired(keep_last=1) == ["base/demo@v2"]
    assert shelf.names() == ["base/demo@v1", "base/demo@v3"]
    shelf.put("base/demo")
    assert shelf.names()[-1] == "base/demo@v4"


def test_a_version_that_its_commit_has_not_finished_stays(shelf: Shelf) -> None:
    shelf.put("base/demo")
    made = shelf.put("base/demo", name=False)
    ref, _ = shelf.store.names.publish("base", "demo", Pointer.to(made))  # and latest is about to be moved
    shelf.put("base/demo")
    assert shelf.expired(keep_last=1) == ["base/demo@v1"]
    shelf.store.names.move(ref, "latest", made.digest)
    assert shelf.store.verify() == []


def test_one_content_under_two_names_stays_as_a_whole(shelf: Shelf) -> None:
    shelf.put("base/one", files={"f": "same"})
    shelf.put("base/two", files={"f": "same"})
    shelf.put("base/one")
    assert shelf.expired(keep_last=1) == []
    shelf.put("base/two")
    assert shelf.expired(keep_last=1) == ["base/one@v1", "base/two@v1"]


def test_the_newest_answer_of_an_old_version_stays_with_it(shelf: Shelf) -> None:
    """Code changed, the bytes did not: v1 has an old manifest, the fingerprint of today a new one."""
    shelf.put("base/demo", files={"f": "same"})
    now = shelf.put("base/demo", files={"f": "same"})
    shelf.clock.now += 10 * DAY_S
    assert shelf.names() == ["base/demo@v1"]
    assert shelf.expired(keep_last=1) == []
    assert shelf.store.lookup("base", now.fingerprint) == now


def test_parts_stay_with_what_holds_their_files_and_go_with_it(shelf: Shelf) -> None:
    one = shelf.put("tokens/x", name=False, files={"a": "1"})
    shelf.put("tokens/x", name=False, files={"b": "2"})
    shelf.put("tokens/x", name=False, files={"c": "3"})
    shelf.put("tokens/demo", files={"a": "1", "b": "2"})
    shelf.clock.now += 2 * DAY_S
    label = shelf.expired(keep_last=1)
    assert len(label) == 1
    assert label[0].startswith("tokens@sha256:")
    shelf.put("tokens/demo")
    assert len(shelf.expired(keep_last=1)) == 3
    assert shelf.store.lookup("tokens", one.fingerprint) is None


def test_what_has_no_name_stays_a_day_and_by_a_rule_of_days(shelf: Shelf) -> None:
    shelf.put("tokens/x", name=False)
    assert shelf.expired(keep_last=1) == []  # perhaps a run is building with it now
    shelf.clock.now += 3 * DAY_S
    assert shelf.expired(keep_days=4) == []
    assert len(shelf.expired(keep_days=2)) == 1


def test_an_expired_artifact_has_a_day_in_which_it_can_be_built_on(shelf: Shelf) -> None:
    grandparent = shelf.put("shards/demo")
    parent = shelf.put("tokenizer/demo", grandparent)
    shelf.put("shards/demo")
    shelf.put("tokenizer/demo")
    shelf.clock.now += 30 * DAY_S
    assert shelf.expired(keep_last=1) == ["shards/demo@v1", "tokenizer/demo@v1"]
    shelf.clock.now += 0.9 * DAY_S
    shelf.store.gc()
    child = shelf.put("base/demo", parent)
    shelf.clock.now += 30 * DAY_S
    assert shelf.store.gc(rules=Rules(keep_last=1)).removed == ()
    assert shelf.store.verify() == []
    assert shelf.store.manifest(shelf.store.names.find("base/demo").pointer) == child
    assert shelf.store.checkout(parent, Path(shelf._folder, "views")).is_dir()


def test_a_commit_whose_parent_is_gone_publishes_nothing(shelf: Shelf) -> None:
    parent = shelf.put("tokenizer/demo")
    shelf.put("tokenizer/demo")
    shelf.expired(keep_last=1)
    shelf.clock.now += 2 * DAY_S
    assert layout.manifest(parent.hex) in shelf.store.gc().removed
    before = set(shelf.names())
    with pytest.raises(DataError, match="was removed while base was made from it") as caught:
        shelf.put("base/demo", parent)
    assert "\n" not in str(caught.value)
    assert set(shelf.names()) == before
    assert shelf.store.verify() == []
    assert list(shelf.backend.list("manifests/base")) == []
    assert [info.key for info in shelf.backend.list("fingerprints/base/")] == []


def test_a_mark_that_is_set_in_time_wins_with_all_its_ancestors(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = shelf.put("tokenizer/demo")
    shelf.put("base/demo", parent)
    shelf.put("tokenizer/demo")
    shelf.put("base/demo")
    expire = gc.expire

    def late(*arguments: object) -> object:
        shelf.store.set_alias("base/demo@v1", "prod")
        return expire(*arguments)

    monkeypatch.setattr(gc, "expire", late)
    assert shelf.expired(keep_last=1) == []
    assert len(shelf.names()) == 4


def test_a_mark_that_is_set_too_late_says_what_there_is(shelf: Shelf) -> None:
    shelf.put("base/demo")
    shelf.put("base/demo")
    shelf.expired(keep_last=1)
    for mark in (shelf.store.pin, lambda ref: shelf.store.set_alias(ref, "prod")):
        with pytest.raises(ResourceError, match="no artifact base/demo@v1"):
            mark("base/demo@v1")


def test_latest_comes_back_to_content_that_expired_meanwhile(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit finds v1 with its bytes; gc takes v1 away; then latest is moved."""
    shelf.put("base/demo", files={"f": "same"})
    shelf.put("base/demo")
    is_latest = commit._is_latest

    def interrupted(*arguments: object) -> bool:
        shelf.backend.delete("names/base/demo/v1.json")
        return is_latest(*arguments)

    monkeypatch.setattr(commit, "_is_latest", interrupted)
    shelf.put("base/demo", files={"f": "same"})
    assert str(shelf.store.resolve("base/demo")[0]) == "base/demo@v3"
    assert shelf.store.verify() == []


def test_a_damaged_alias_stops_the_rules_before_they_take_anything(shelf: Shelf) -> None:
    shelf.put("base/demo")
    shelf.put("base/demo")
    shelf.backend.put("aliases/base/demo/prod.json", b"{")
    with pytest.raises(DataError):
        shelf.expired(keep_last=1)
    assert len(shelf.names()) == 2


def test_what_a_commit_touches_while_gc_looks_keeps_its_ancestors(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    grandparent = shelf.put("shards/demo")
    parent = shelf.put("tokenizer/demo", grandparent)
    shelf.put("shards/demo")
    shelf.put("tokenizer/demo")
    shelf.expired(keep_last=1)
    shelf.clock.now += 2 * DAY_S
    take_inventory = gc.take_inventory

    def slow(store: Store, grace_s: float) -> object:
        found = take_inventory(store, grace_s)
        store.backend.touch(layout.manifest(parent.hex))
        return found

    monkeypatch.setattr(gc, "take_inventory", slow)
    assert shelf.store.gc().removed == ()
    assert shelf.store.manifest(Pointer.to(grandparent)) == grandparent
