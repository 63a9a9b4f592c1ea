from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifacts import commit, layout
from artifacts import listing as listing_module
from artifacts.backends import Backend
from artifacts.errors import DataError
from artifacts.listing import Entry, _Record, listing, relist
from artifacts.names import Pointer
from artifacts.retention import Rules
from artifacts.store import Store


def test_every_version_with_aliases_and_summary(make, store: Store) -> None:
    first = make.commit(config={"a": 1}, files={"x": b"1"}, metrics={"val_bpb": 1.5}, key_metric="val_bpb")
    make.commit(config={"a": 2}, files={"x": b"22"})
    make.commit(config={"a": 3}, files={"x": b"3"}, name="other")
    store.set_alias("base/demo@v1", "prod")
    found = listing(store.backend)
    assert [(str(item.ref), item.aliases) for item in found] == [
        ("base/demo@v1", ("prod",)), ("base/demo@v2", ("latest",)), ("base/other@v1", ("latest",)),
    ]  # fmt: skip
    entry = found[0].entry
    assert entry.digest == first.manifest.digest
    assert (entry.created, entry.bytes) == (first.manifest.created, first.manifest.total_bytes)
    assert (entry.key_metric, entry.value) == ("val_bpb", 1.5)
    assert [str(item.ref) for item in listing(store.backend, "base", "other")] == ["base/other@v1"]
    assert [str(item.ref) for item in listing(store.backend, None, "other")] == ["base/other@v1"]
    assert listing(store.backend, "rl") == []


def test_the_tenth_version_comes_after_the_ninth(make, store: Store) -> None:
    for number in range(11):
        make.commit(config={"a": number}, files={"x": str(number).encode()})
    assert [item.ref.version for item in listing(store.backend)] == list(range(1, 12))


RECORD = "lists/base/demo.json"


@pytest.mark.parametrize(
    "data",
    [None, b"", b"torn", b"[]", b'{"versions": {"1": ["new"]}, "aliases": {}}', b'{"versions": 1}',
     b'{"versions": {"1": ["", "", "", "", "7", "", 0]}, "aliases": {}}',
     b'{"versions": {"x": null}, "aliases": {}}', b'{"versions": {}, "aliases": {"prod": "1"}}'],
)  # fmt: skip
def test_a_record_that_is_no_good_is_read_through_and_mended(make, store: Store, data: bytes | None) -> None:
    made = make.commit(files={"x": b"1"}).manifest
    if data is None:
        store.backend.delete(RECORD)
    else:
        store.backend.put(RECORD, data)
        (problem,) = store.verify()
        assert str(problem) == f"{RECORD}: is not what lists can show"
        assert problem.hint == "mend what lists show: nanochat art gc"
    (item,) = listing(store.backend)
    assert (str(item.ref), item.aliases, item.entry) == ("base/demo@v1", ("latest",), Entry.of(made))
    assert listing(store.backend, "base", "demo") == [item]
    store.gc()
    assert (store.verify(), listing(store.backend)) == ([], [item])
    assert _Record.of(json.loads(store.backend.get(RECORD) or b"")) is not None


def test_a_record_that_shows_another_artifact_is_found_and_mended(make, store: Store) -> None:
    made = make.commit(files={"x": b"1"}).manifest
    record = json.loads(store.backend.get(RECORD) or b"")
    record["versions"]["1"][4] = 7
    store.backend.put(RECORD, json.dumps(record).encode())
    (problem,) = store.verify()
    assert str(problem) == f"{RECORD}: shows another artifact as v1"
    store.gc()
    assert store.verify() == []
    assert listing(store.backend)[0].entry == Entry.of(made)


def test_a_damaged_version_is_named(make, store: Store) -> None:
    make.commit(files={"x": b"1"})
    store.backend.put(layout.version("base", "demo", 1), b"{}")
    store.backend.delete(RECORD)
    with pytest.raises(DataError, match="base/demo@v1 is damaged"):
        listing(store.backend)
    make.commit(config={"a": 2}, files={"x": b"2"})  # and stops nobody
    with pytest.raises(DataError, match="base/demo@v1 is damaged"):
        listing(store.backend)


def test_what_a_killed_publisher_left_is_listed_by_the_next_run_and_by_gc(
    make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.commit(config={"a": 1}, files={"x": b"1"})
    with monkeypatch.context() as patch:
        patch.setattr(commit, "relist", lambda *_: None)
        second = make.commit(config={"a": 2}, files={"x": b"2"}).manifest
        third = make.commit(config={"a": 3}, files={"x": b"3"}).manifest
    assert [item.ref.version for item in listing(store.backend)] == [1]
    before = store.backend.get(RECORD)
    store.gc(dry_run=True)
    assert store.backend.get(RECORD) == before
    assert str(store.name(second, "demo")) == "base/demo@v2"
    assert [item.ref.version for item in listing(store.backend)] == [1, 2, 3]
    store.backend.put(RECORD, before or b"")
    store.gc()
    assert [(item.ref.version, item.aliases) for item in listing(store.backend)] == [
        (1, ()), (2, ()), (3, ("latest",)),
    ]  # fmt: skip
    written = store.backend.get(RECORD)
    store.name(third, "demo")
    store.gc()
    assert store.backend.get(RECORD) == written


def test_what_gc_took_away_is_not_listed(make, store: Store) -> None:
    for number in range(3):
        make.commit(config={"a": number}, files={"x": str(number).encode()})
    store.gc(rules=Rules(keep_last=1), grace_s=-1)
    assert [item.ref.version for item in listing(store.backend)] == [3]


def test_of_writers_at_once_none_is_forgotten(make, store: Store) -> None:
    def publish(number: int) -> None:
        made = make.commit(config={"a": number}, files={"x": str(number).encode()})
        store.set_alias(made.ref, f"alias-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(16)))
    found = listing(store.backend)
    assert [item.ref.version for item in found] == list(range(1, 17))
    assert sorted(text for item in found for text in item.aliases) == sorted(
        ["latest", *(f"alias-{number}" for number in range(16))]
    )


def test_a_writer_that_slept_does_not_bring_back_what_is_gone(
    make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read names/ when v2 was there; v2 goes, so that all is as it was when it began."""
    make.commit(config={"a": 1}, files={"x": b"1"})
    derived = listing_module._derived
    slept: list[int] = []

    def slow(*arguments):
        found = derived(*arguments)
        if not slept:
            slept.append(1)
            store.backend.delete(layout.version("base", "demo", 2))
            relist(store.backend, "base", "demo")
        return found

    pointer = Pointer.to(store.resolve("base/demo")[1])
    store.backend.put(layout.version("base", "demo", 2), pointer.encode())
    monkeypatch.setattr(listing_module, "_derived", slow)
    relist(store.backend, "base", "demo")
    assert [item.ref.version for item in listing(store.backend)] == [1]


def test_of_a_bucket_only_what_changed_is_read_again(
    backend: Backend, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    store = Store(backend)
    there = type(make)(store, tmp_path / "payloads", make.draft)
    there.commit(config={"a": 1}, files={"x": b"1"})
    there.commit(config={"a": 2}, files={"x": b"2"})
    there.commit(config={"a": 3}, files={"x": b"3"}, name="other")
    before = listing(backend)
    assert [str(item.ref) for item in before] == ["base/demo@v1", "base/demo@v2", "base/other@v1"]
    if not backend.url.startswith("s3://"):
        assert not (tmp_path / "home/cache/lists").exists()
        return
    asked: list[str] = []
    get_many = backend.get_many

    def noted(keys):
        asked.extend(keys)
        return get_many(keys)

    monkeypatch.setattr(backend, "get_many", noted)
    assert (listing(backend), asked) == (before, [])
    store.set_alias("base/demo@v1", "prod")
    assert listing(backend)[0].aliases == ("prod",)
    assert asked == [RECORD]
    assert len(listing(backend, "base")) == 3
    (kept,) = (tmp_path / "home/cache/lists").iterdir()
    for damage in ("{damaged", "[1]", '{"lists/base/demo.json": 7}'):
        kept.write_text(damage, encoding="utf-8")
        assert [item.entry for item in listing(backend)] == [item.entry for item in before]
    backend.delete(RECORD)
    asked.clear()
    assert [str(item.ref) for item in listing(backend)] == ["base/other@v1"]
    assert "demo" not in kept.read_text(encoding="utf-8")


def test_of_two_versions_of_one_second_the_higher_one_is_newer(make, store: Store) -> None:
    for number in range(2):
        make.commit(config={"a": number}, files={"x": b"%d" % number})
    first, second = (
        item._replace(entry=item.entry._replace(created="2026-01-01T00:00:00+00:00"))
        for item in listing(store.backend)
    )
    assert first.made < second.made
