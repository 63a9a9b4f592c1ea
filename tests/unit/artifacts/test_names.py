from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.names import Names, Pointer
from artifacts.ref import LATEST, ArtifactRef
from artifacts.store import Store

A, B, C = (Pointer("base", letter * 64, letter * 64) for letter in "abc")


@pytest.fixture
def names(store: Store) -> Names:
    return store.names


def test_a_version_is_made_for_a_new_digest_only(names: Names) -> None:
    results = [names.publish("base", "demo", pointer) for pointer in (A, B, A, C, B)]
    assert [(str(ref), is_new) for ref, is_new in results] == [
        ("base/demo@v1", True), ("base/demo@v2", True), ("base/demo@v1", False), ("base/demo@v3", True),
        ("base/demo@v2", False),
    ]  # fmt: skip


def test_names_do_not_mix(names: Names) -> None:
    for name in ("demo", "demo-2", "de"):
        assert names.publish("base", name, A)[0].version == 1
    assert [str(ref) for ref in names.version_keys()] == ["base/de@v1", "base/demo@v1", "base/demo-2@v1"]
    assert [str(ref) for ref in names.version_keys("base", "demo")] == ["base/demo@v1"]
    assert names.version_keys("eval") == []


def test_versions_are_in_order_of_their_numbers(names: Names) -> None:
    for number in range(11):
        names.publish("base", "demo", Pointer("base", f"{number:064x}", f"{number:064x}"))
    assert [ref.version for ref in names.version_keys("base")] == list(range(1, 12))


@pytest.mark.criterion("T41")
def test_of_many_creators_of_one_version_one_wins(names: Names) -> None:
    for number in range(50):
        barrier, made = threading.Barrier(8), []

        def create(
            pointer: Pointer, barrier: threading.Barrier = barrier, made: list = made, n: int = number
        ) -> None:
            barrier.wait()
            made.append((names.publish("base", f"n{n}", pointer), pointer))

        pointers = [Pointer("base", f"{index:064x}", f"{index // 2:064x}") for index in range(8)]
        threads = [threading.Thread(target=create, args=(pointer,)) for pointer in pointers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = {ref.version: pointer for (ref, is_new), pointer in made if is_new}
        assert sorted(winners) == [1, 2, 3, 4]  # four digests, each asked for twice
        for version in names.versions("base", f"n{number}"):
            assert version.pointer == winners[version.ref.version]


def test_aliases_move_and_remember(names: Names) -> None:
    one, two = names.publish("base", "demo", A)[0], names.publish("base", "demo", B)[0]
    for ref, pointer in ((one, A), (two, B), (two, B), (one, A)):
        names.move(ref, "prod", pointer.digest)
    alias = names.aliases("base", "demo")["prod"]
    assert alias.version == 1
    assert [entry["version"] for entry in alias.history] == [1, 2, 1]
    assert names.find("base/demo@prod").ref == one


def test_moves_at_once_lose_no_history(names: Names) -> None:
    refs = [names.publish("base", "demo", Pointer("base", f"{n:064x}", f"{n:064x}"))[0] for n in range(8)]
    threads = [
        threading.Thread(target=names.move, args=(ref, "prod", f"{n:064x}")) for n, ref in enumerate(refs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = names.aliases("base", "demo")["prod"].history
    assert sorted(entry["version"] for entry in history) == list(range(1, 9))


def test_find_by_version_alias_and_digest(names: Names) -> None:
    ref, _ = names.publish("base", "demo", A)
    names.move(ref, LATEST, A.digest)
    for text in ("base/demo", "base/demo@latest", "base/demo@v1", "base/demo@sha256:" + "a" * 8):
        assert names.find(text).ref == ref


@pytest.mark.parametrize(
    ("text", "hint"),
    [("base/dem", "did you mean base/demo?"), ("base/demo@v7", "base/demo@v1"),
     ("base/demo@prod", "base/demo@v1"),
     ("sft/other", "art ls"), ("base/demo@sha256:00000000", "base/demo@v1")],
)  # fmt: skip
def test_what_is_not_there_says_what_is(text: str, hint: str, names: Names) -> None:
    names.publish("base", "demo", A)
    with pytest.raises(ResourceError) as error:
        names.find(text)
    assert hint in error.value.hint


def test_an_ambiguous_digest_is_refused(names: Names) -> None:
    for tail in "12":
        names.publish("base", "demo", Pointer("base", "a" * 64, "a" * 63 + tail))
    with pytest.raises(UsageError, match="more than one"):
        names.find("base/demo@sha256:aaaaaaaa")


def test_damaged_records_are_named(names: Names, root: Path, flip: Callable[..., None]) -> None:
    ref, _ = names.publish("base", "demo", A)
    names.move(ref, "prod", A.digest)
    (root / "names/base/demo/v1.json").write_text("{}")
    with pytest.raises(DataError, match=r"names/base/demo/v1\.json"):
        names.find(ref)
    (root / "names/base/demo/v1.json").write_bytes(B.encode())
    with pytest.raises(DataError, match="alias base/demo@prod"):
        names.find("base/demo@prod")
    flip(root / "aliases/base/demo/prod.json")
    with pytest.raises(DataError, match=r"aliases/base/demo/prod\.json"):
        names.find("base/demo@prod")
    names.move(ref, "prod", B.digest)
    assert names.find("base/demo@prod").ref == ref


def test_a_damaged_version_keeps_its_number(names: Names, root: Path) -> None:
    names.publish("base", "demo", A)
    (root / "names/base/demo/v1.json").write_text("torn")
    assert names.publish("base", "demo", A) == (ArtifactRef("base", "demo", version=2), True)


def test_only_the_newest_version_awaits_latest(names: Names) -> None:
    one, two = names.publish("base", "demo", A)[0], names.publish("base", "demo", B)[0]
    assert not names.awaits_latest(one)
    assert names.awaits_latest(two)
    names.move(two, LATEST, B.digest)
    names.move(one, LATEST, A.digest)
    assert not names.awaits_latest(two)
