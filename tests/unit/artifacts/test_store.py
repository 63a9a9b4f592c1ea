from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.backends.memory import MemoryBackend
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.manifest import Provenance
from artifacts.store import Store


def test_lookup_answers_what_was_committed(make, store: Store) -> None:
    published = make.commit(config={"depth": 4}, metrics={"val_bpb": 1.5}, key_metric="val_bpb")
    fingerprint = make.draft(config={"depth": 4}).fingerprint
    assert store.lookup("base", fingerprint) == published.manifest
    assert store.lookup("base", "0" * 64) is None
    assert store.lookup("sft", fingerprint) is None


def test_reading_writes_nothing(make, store: Store, root: Path, tmp_path: Path, snapshot: Callable) -> None:
    manifest = make.commit().manifest
    before = snapshot(root)
    again = Store.open(str(root))
    assert again.lookup("base", manifest.fingerprint) == manifest
    again.check(manifest)
    again.checkout(manifest, tmp_path / "views")
    assert again.name(manifest, "demo") == again.resolve("base/demo")[0]
    assert again.verify() == []
    again.list()
    again.aliases("base", "demo")
    assert again.gc(dry_run=True, grace_s=0).removed == ()
    assert snapshot(root) == before


def test_a_hit_checks_manifest_presence_and_size(make, store: Store, blob_of: Callable, root: Path) -> None:
    manifest = make.commit().manifest
    store.check(manifest)
    blob = blob_of(manifest, "sub/config.json")
    blob.chmod(0o644)
    blob.write_bytes(b"{} ")
    with pytest.raises(DataError) as error:
        store.check(manifest)
    assert "base/demo@v1" in error.value.message
    assert "sub/config.json" in error.value.message
    assert error.value.hint == "rebuild it: nanochat run PRESET --force base"
    blob.unlink()
    with pytest.raises(DataError, match="is missing"):
        store.check(manifest)


@pytest.mark.parametrize(
    ("made_by", "rebuilt_by"),
    [
        ("nanochat run demo --set depth=6", "nanochat run demo --set depth=6 --force base"),
        ("nanochat eval sft/demo --tasks docs", "nanochat eval sft/demo --tasks docs --force"),
        ("nanochat eval sft/demo --store .../store", "nanochat eval REF --force"),
        ("nanochat run demo --store .../store", "nanochat run PRESET --force base"),
        ("nanochat run demo --name [redacted]", "nanochat run PRESET --force base"),
        ("python -m prefect.flow_engine", "nanochat run PRESET --force base"),
    ],
)
def test_damage_names_the_command_that_rebuilds(
    made_by: str, rebuilt_by: str, make, store: Store, blob_of: Callable
) -> None:
    provenance = Provenance(commit="0" * 40, command=made_by)
    manifest = make.commit(provenance=provenance).manifest
    blob_of(manifest, "model.bin").unlink()
    with pytest.raises(DataError) as error:
        store.check(manifest)
    assert error.value.hint == f"rebuild it: {rebuilt_by}"
    (problem,) = store.verify("base/demo")
    assert problem.hint == error.value.hint


def test_a_damaged_manifest_gives_no_command(make, store: Store, root: Path) -> None:
    manifest = make.commit(provenance=Provenance(command="nanochat run demo")).manifest
    path = root / "manifests" / f"{manifest.hex}.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"nanochat run demo", b"nanochat run evil"))
    with pytest.raises(DataError) as error:
        store.resolve("base/demo")
    assert error.value.hint == "rebuild it: nanochat run PRESET --force base"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "swap"])
def test_a_damaged_manifest_is_never_a_miss(
    damage: str, make, store: Store, root: Path, flip: Callable
) -> None:
    manifest, other = make.commit().manifest, make.commit(config={"depth": 6}, files={"x": b"y"}).manifest
    path = root / "manifests" / f"{manifest.hex}.json"
    if damage == "flip":
        flip(path, 100)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "swap":
        path.write_bytes((root / "manifests" / f"{other.hex}.json").read_bytes())
    else:
        path.unlink()
    for read in (
        lambda: store.lookup("base", manifest.fingerprint),
        lambda: store.check(manifest),
        lambda: store.resolve("base/demo@v1"),
    ):
        with pytest.raises(DataError, match="base/demo@v1 is damaged") as error:
            read()
        assert "--force base" in error.value.hint
        assert "\n" not in str(error.value)


def test_a_manifest_that_was_edited_is_refused_though_it_is_well_formed(
    make, store: Store, root: Path
) -> None:
    manifest = make.commit(metrics={"val_bpb": 1.5}).manifest
    path = root / "manifests" / f"{manifest.hex}.json"
    path.write_bytes(path.read_bytes().replace(b'"val_bpb":1.5', b'"val_bpb":1.4'))
    with pytest.raises(DataError, match="does not have its sha256"):
        store.lookup("base", manifest.fingerprint)


def test_a_damaged_or_misplaced_pointer_is_never_a_miss(make, store: Store, root: Path) -> None:
    manifest = make.commit().manifest
    path = root / "fingerprints" / "base" / f"{manifest.fingerprint}.json"
    other = path.with_name("0" * 64 + ".json")
    other.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="another fingerprint"):
        store.lookup("base", "0" * 64)
    path.write_text("")
    with pytest.raises(DataError) as error:
        store.lookup("base", manifest.fingerprint)
    assert "--force base" in error.value.hint


def test_storage_errors_are_never_a_miss(make, store: Store, root: Path) -> None:
    manifest = make.commit().manifest
    (root / "fingerprints" / "base" / f"{manifest.fingerprint}.json").unlink()
    (root / "fingerprints" / "base").rmdir()
    (root / "fingerprints" / "base").write_text("a file where a folder should be")
    with pytest.raises(ResourceError):
        store.lookup("base", manifest.fingerprint)


def test_aliases_through_the_store(make, store: Store) -> None:
    first = make.commit().ref
    make.commit(config={"depth": 6}, files={"x": b"y"})
    assert store.set_alias("base/demo@v1", "prod") == first
    assert store.resolve("base/demo@prod")[0] == first
    assert {text: alias.version for text, alias in store.aliases("base", "demo").items()} == {
        "latest": 2,
        "prod": 1,
    }
    with pytest.raises(UsageError, match="moves by itself"):
        store.set_alias("base/demo@v1", "latest")
    with pytest.raises(UsageError):
        store.set_alias("base/demo@v1", "v3")


def test_list_is_by_kind_and_name(make, store: Store) -> None:
    make.commit()
    make.commit(stage="tokenizer", name="other")
    assert [str(version.ref) for version in store.list()] == ["base/demo@v1", "tokenizer/other@v1"]
    assert [str(version.ref) for version in store.list("base")] == ["base/demo@v1"]
    assert store.list("base", "other") == []


def test_attempts_are_kept_and_dropped(store: Store, root: Path) -> None:
    folder = store.attempt_dir("a" * 64)
    assert folder == root / "attempts" / ("a" * 64)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "x").write_text("x")
    assert store.attempt_dir("a" * 64) == folder
    store.drop_attempt("a" * 64)
    store.drop_attempt("a" * 64)
    assert not folder.exists()
    for hostile in ("..", "", "../../x", "A" * 64):
        with pytest.raises(UsageError):
            store.drop_attempt(hostile)


def test_an_attempt_is_dropped_here_and_in_a_store_that_is_elsewhere(home: Path) -> None:
    far = Store(MemoryBackend())
    assert not far.is_here
    folder = far.attempt_dir("a" * 64)
    assert folder == home / "attempts" / ("a" * 64)
    for fingerprint in ("a" * 64, "b" * 64):
        far.backend.put(f"attempts/{fingerprint}/00000001-1.json", b"{}")
    far.drop_attempt("a" * 64)
    assert not folder.exists()
    assert [info.key for info in far.backend.list("attempts/")] == [f"attempts/{'b' * 64}/00000001-1.json"]
