"""Artifacts go through one file from store to store, whole; nothing else comes in that way."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import archive, layout
from artifacts.archive_export import export
from artifacts.archive_import import import_
from artifacts.backends import Backend
from artifacts.backends.memory import Fault, MemoryBackend
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.lineage import graph
from artifacts.store import Store

ALL = {"base/demo@v1", "tokenizer/demo@v1", "shards/demo@v1"}
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def family(make, parent_of: Callable) -> dict:
    """shards -> tokenizer -> base, which reads both; shards and tokenizer have a file in common."""
    shards = make.commit({"s/0.bin": b"shard", "same": b"same"}, stage="shards")
    tokenizer = make.commit(
        {"t": b"t", "same": b"same"}, stage="tokenizer", parents=(parent_of(shards, "in"),)
    )
    both = (parent_of(shards, "shards"), parent_of(tokenizer, "tokenizer"))
    base = make.commit({"b": b"b" * 2000, "empty": b""}, parents=both, metrics={"loss": 1.5})
    return {"shards": shards, "tokenizer": tokenizer, "base": base}


@pytest.fixture
def other() -> Store:
    """An empty store that is no folder."""
    return in_memory()


def in_memory() -> Store:
    backend = MemoryBackend()
    backend.put_new(layout.STORE, layout.encode({"schema": 1}))
    return Store(backend)


def objects(store: Store) -> dict[str, bytes | None]:
    return {info.key: store.backend.get(info.key) for info in store.backend.list("")}


def members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def pack(path: Path, content: Members) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in content:
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def changed(path: Path, change: Callable[[dict], object]) -> Path:
    """The archive with another index."""
    (_, data), *rest = members(path)
    index = json.loads(data)
    change(index)
    return pack(path, [member("index.json", json.dumps(index).encode()), *rest])


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_everything_arrives_in_another_store(
    ending: str, family: dict, store: Store, other: Store, tmp_path: Path
) -> None:
    path = tmp_path / "new" / f"out{ending}"
    index = export(store, "base/demo", path)
    assert index.root == "base/demo@v1"
    assert {str(ref) for ref, _ in index.names} == ALL
    made = import_(other, path)
    assert str(made[0].ref) == "base/demo@v1"
    assert {(str(item.was), str(item.ref)) for item in made} == {(ref, ref) for ref in ALL}
    assert other.verify() == []
    assert graph(other, "base/demo") == graph(store, "base/demo")
    for published in family.values():
        manifest = published.manifest
        assert other.lookup(manifest.stage, manifest.fingerprint) == manifest
        view = other.checkout(other.resolve(published.ref)[1], tmp_path / "views")
        assert {path for path in manifest.all_files() if (view / path).is_file()} == set(manifest.all_files())
    assert not list(tmp_path.rglob(".tmp-*"))


def test_it_goes_back_from_a_store_that_is_no_folder(
    family: dict, store: Store, other: Store, tmp_path: Path
) -> None:
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    export(store, "base/demo", first)
    import_(other, first)
    export(other, "base/demo@v1", second)
    assert second.read_bytes() == first.read_bytes()
    fresh = Store.open(str(tmp_path / "fresh"))
    import_(fresh, second)
    assert fresh.verify() == []
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_it_works_wherever_a_store_is(make, parent_of: Callable, backend: Backend, tmp_path: Path) -> None:
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    make.store = Store.open(str(tmp_path / "source"))
    tokenizer = make.commit({"t": b"t"}, stage="tokenizer")
    make.commit(parents=(parent_of(tokenizer, "tokenizer"),))
    backend.put_new(layout.STORE, layout.encode({"schema": 1}))
    export(make.store, "base/demo", first)
    import_(Store(backend), first)
    export(Store(backend), "base/demo", second)
    assert second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_equal_content_makes_equal_bytes(ending: str, family: dict, store: Store, tmp_path: Path) -> None:
    one, two = tmp_path / f"one{ending}", tmp_path / f"two{ending}"
    export(store, "base/demo", one)
    export(store, "base/demo@v1", two)
    assert one.read_bytes() == two.read_bytes()
    found = [info for info, _ in members(one)]
    assert found[0].name == "index.json"
    assert [info.name for info in found[1:]] == sorted(info.name for info in found[1:])
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in found} == {(0, 0, 0, "", "")}


def test_importing_again_writes_nothing(
    family: dict, store: Store, root: Path, snapshot: Callable, tmp_path: Path
) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    before = snapshot(root)
    assert {item.ref for item in import_(store, tmp_path / "a.tar")} == {item.ref for item in family.values()}
    assert snapshot(root) == before


def test_a_name_that_is_taken_gets_a_new_version(family: dict, store: Store, make, tmp_path: Path) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    there = Store.open(str(tmp_path / "there"))
    make.store = there
    mine = make.commit({"t": b"mine"}, stage="tokenizer", config={"x": 1})
    same = make.commit({"s/0.bin": b"shard", "same": b"same"}, stage="shards", config={"x": 1})
    made = {str(item.was): str(item.ref) for item in import_(there, tmp_path / "a.tar")}
    assert made == {
        "base/demo@v1": "base/demo@v1", "tokenizer/demo@v1": "tokenizer/demo@v2",
        "shards/demo@v1": str(same.ref),
    }  # fmt: skip
    assert there.resolve("tokenizer/demo@v1")[1] == mine.manifest
    assert there.resolve("tokenizer/demo")[1].digest == family["tokenizer"].manifest.digest
    assert there.verify() == []
    again = export(there, "base/demo", tmp_path / "b.tar")
    assert "tokenizer/demo@v2" in {str(ref) for ref, _ in again.names}  # its name there, not the recorded one


def test_versions_keep_their_order(
    make, store: Store, other: Store, parent_of: Callable, tmp_path: Path
) -> None:
    made = [make.commit({"t": bytes([n])}, stage="tokenizer", config={"n": n}) for n in range(11)]
    parents = tuple(parent_of(item, f"t{n}") for n, item in enumerate(made))
    make.commit({"b": b"b"}, parents=parents)
    export(store, "base/demo", tmp_path / "a.tar")
    import_(other, tmp_path / "a.tar")
    for item in made:
        assert other.resolve(item.ref)[1] == item.manifest
    assert str(other.resolve("tokenizer/demo")[0]) == "tokenizer/demo@v11"


def test_a_fingerprint_that_is_answered_stays_so(make, store: Store, tmp_path: Path) -> None:
    make.commit({"b": b"theirs"})
    export(store, "base/demo", tmp_path / "a.tar")
    there = Store.open(str(tmp_path / "there"))
    make.store = there
    mine = make.commit({"b": b"mine"}).manifest
    import_(there, tmp_path / "a.tar")
    assert there.lookup("base", mine.fingerprint) == mine
    assert str(there.resolve("base/demo")[0]) == "base/demo@v2"


def test_what_was_superseded_does_not_answer(make, store: Store, other: Store, tmp_path: Path) -> None:
    old = make.commit({"b": b"old"}).manifest
    make.commit({"b": b"new"}, replace=True)
    export(store, "base/demo@v1", tmp_path / "a.tar")
    import_(other, tmp_path / "a.tar")
    assert other.resolve("base/demo")[1] == old
    assert other.lookup("base", old.fingerprint) is None


def test_a_parent_without_a_name_travels_along(
    make, store: Store, other: Store, parent_of: Callable, tmp_path: Path
) -> None:
    nameless = make.commit({"t": b"t"}, stage="tokenizer", name=None)
    make.commit({"b": b"b"}, parents=(parent_of(nameless, "tokenizer"),))
    export(store, "base/demo", tmp_path / "a.tar")
    assert [str(item.ref) for item in import_(other, tmp_path / "a.tar")] == ["base/demo@v1"]
    assert other.lookup("tokenizer", nameless.manifest.fingerprint) == nameless.manifest
    assert other.verify() == []


def test_one_artifact_alone_needs_its_parents_there(
    family: dict, store: Store, other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, parents = tmp_path / "alone.tar", tmp_path / "parents.tar"
    export(store, "base/demo", alone, with_lineage=False)
    export(store, "tokenizer/demo", parents)
    before = objects(other)
    with pytest.raises(DataError, match=r"made from '(shards|tokenizer)/demo@v1', which is not in it"):
        import_(other, alone)
    assert objects(other) == before
    import_(other, parents)
    touch, touched = other.backend.touch, []
    monkeypatch.setattr(other.backend, "touch", lambda key: touched.append(key) or touch(key))
    assert [str(item.ref) for item in import_(other, alone)] == ["base/demo@v1"]
    assert layout.manifest(family["tokenizer"].manifest.hex) in touched, "gc has to spare it"
    assert other.verify() == []


@pytest.mark.parametrize("kind", ["flip", "gone", "short", "long"])
def test_damage_stops_the_export_and_is_named(
    kind: str, family: dict, store: Store, blob_of: Callable, tmp_path: Path
) -> None:
    blob = blob_of(family["base"].manifest, "b")
    data = blob.read_bytes()
    blob.unlink()
    if kind != "gone":
        blob.write_bytes({"flip": b"x" + data[1:], "short": data[:-1], "long": data + b"b"}[kind])
    with pytest.raises(DataError, match="base/demo@v1 is damaged: b ") as error:
        export(store, "base/demo", tmp_path / "out" / "a.tar")
    assert "--force" in error.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_blob_in_the_store_is_mended(
    family: dict, store: Store, blob_of: Callable, flip: Callable, tmp_path: Path
) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    flip(blob_of(family["base"].manifest, "b"))
    import_(store, tmp_path / "a.tar")
    assert store.verify() == []


@pytest.mark.parametrize(("name", "error"), [("a.zip", UsageError), ("tar", UsageError)])
def test_export_wants_a_name_that_says_what_it_is(
    name: str, error: type, family: dict, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(error, match="is no name for an archive"):
        export(store, "base/demo", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_import_of_nothing_says_so(store: Store, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.tar"):
        with pytest.raises(ResourceError, match="no file"):
            import_(store, path)


def test_a_killed_import_is_finished_by_another(family: dict, store: Store, tmp_path: Path) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    for verb in ("upload", "put", "put_new", "compare_and_swap"):
        for nth in (1, 2, 3):
            there = in_memory()
            there.backend.faults.append(Fault(verb, nth))
            there.backend.calls.clear()
            with pytest.raises(ResourceError):
                import_(there, tmp_path / "a.tar")
            assert there.verify() == []  # nothing points to what is not there
            import_(there, tmp_path / "a.tar")
            assert there.verify() == []
            assert graph(there, "base/demo") == graph(store, "base/demo")


def test_memory_stays_flat(make, store: Store, tmp_path: Path) -> None:
    size = 64 << 20
    make.commit({"big": b"\0" * size})
    there = Store.open(str(tmp_path / "there"))
    tracemalloc.start()  # it counts what Python holds, not the page cache
    export(store, "base/demo", tmp_path / "a.tar")
    import_(there, tmp_path / "a.tar")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 4
    assert there.verify() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(schema=2), "archive schema 2, this program knows 1"),
        (lambda index: index.pop("schema"), "schema"),
        (lambda index: index.update(more=1), "more"),
        (lambda index: index.update(root="base/other@v1"), "root base/other@v1 is not in it"),
        (lambda index: index.update(root="../x"), "incomplete|not allowed"),
        (lambda index: index["artifacts"].pop(), "its index and its manifests differ"),
        (lambda index: index["artifacts"].append(index["artifacts"][0]), "index and its manifests differ"),
        (lambda index: [item.update(ref="base/x@v1") for item in index["artifacts"]], "root"),
        (lambda index: [item.update(ref=index["root"]) for item in index["artifacts"]], "is of kind"),
        (lambda index: index["members"].popitem(), "not in its index"),
        (lambda index: index["members"].update({"../evil": 1}), r"'\.\./evil', which is no blob"),
        (lambda index: index["members"].update({"blobs/sha256/AA/" + "A" * 64: 1}), "which is no blob"),
        (lambda index: index["members"].update({layout.blob("f" * 64): 1}), "where its index has|it lacks"),
        (lambda index: index["members"].update(dict.fromkeys(index["members"], 1)), "bytes, not 1$|not 1 "),
        (lambda index: index["members"].update({layout.blob("f" * 64): -1}), "greater than"),
        (lambda index: index["members"].update({layout.blob("f" * 64): 1 << 60}), "times its size"),
        (lambda index: index["members"].update({layout.manifest("f" * 64): 1 << 30}), "manifests have"),
    ],
)  # fmt: skip
def test_an_index_that_lies_is_refused(
    change: Callable, message: str, family: dict, store: Store, other: Store, tmp_path: Path
) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    before = objects(other)
    with pytest.raises(DataError, match=message) as error:
        import_(other, changed(tmp_path / "a.tar", change))
    assert "\n" not in str(error.value)
    assert objects(other) == before


def test_the_files_must_be_those_of_the_manifests(
    family: dict, store: Store, other: Store, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    export(store, "base/demo", path)
    (_, data), *good = members(path)
    key = layout.blob(hashlib.sha256(b"more").hexdigest())
    more = sorted([*good, member(key, b"more")], key=lambda pair: pair[0].name)
    for content in (more, good[1:]):
        index = json.loads(data) | {"members": {info.name: info.size for info, _ in content}}
        pack(path, [member("index.json", json.dumps(index).encode()), *content])
        with pytest.raises(DataError, match="its files are not those of its manifests"):
            import_(other, path)


@pytest.mark.parametrize("kept", [10, 512, 1000, -1300, -2 * 512, -1])
def test_an_end_that_is_missing_is_noticed(
    kept: int, family: dict, store: Store, other: Store, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    export(store, "base/demo", path)
    path.write_bytes(path.read_bytes()[:kept])
    if kept == -1:  # one zero block ends a tar as well as two
        assert import_(other, path)
        return
    with pytest.raises(DataError, match="it ends too early"):
        import_(other, path)


def test_an_index_that_would_fill_the_memory_is_not_read(other: Store, tmp_path: Path) -> None:
    info = tarfile.TarInfo("index.json")
    info.size = archive.MAX_RECORD_BYTES + 1
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(DataError, match=f"at most {archive.MAX_RECORD_BYTES} are allowed"):
        import_(other, tmp_path / "a.tar")


@pytest.mark.parametrize("which", ["blobs/", "manifests/"])
def test_other_bytes_of_the_same_size_are_refused(
    which: str, family: dict, store: Store, other: Store, tmp_path: Path
) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    content = members(tmp_path / "a.tar")
    at = max(n for n, (info, data) in enumerate(content) if info.name.startswith(which) and data)
    info, data = content[at]
    content[at] = (info, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{info.name} does not have its sha256"):
        import_(other, pack(tmp_path / "a.tar", content))


def test_a_manifest_with_two_files_at_one_place_is_refused(
    family: dict, store: Store, other: Store, make, tmp_path: Path
) -> None:
    for files in ({"A": b"1", "a": b"2"}, {"sub/x": b"1", "SUB": b"2"}):
        make.commit(files, name="clash", config={"files": list(files)})
        with pytest.raises(DataError, match="two files at"):
            export(store, "base/clash", tmp_path / "a.tar")


def test_a_manifest_that_another_program_wrote_is_refused(
    make, store: Store, other: Store, tmp_path: Path
) -> None:
    manifest = make.commit().manifest
    for change, message in ((lambda value: value.update(schema=9), "schema"), (dict, "canonical")):
        export(store, "base/demo", tmp_path / "a.tar")
        content = {info.name: data for info, data in members(tmp_path / "a.tar")}
        value = json.loads(content.pop(layout.manifest(manifest.hex)))
        change(value)
        data = json.dumps(value, indent=1).encode()
        sha256 = hashlib.sha256(data).hexdigest()
        index = json.loads(content.pop("index.json"))
        del index["members"][layout.manifest(manifest.hex)]
        index["members"][layout.manifest(sha256)] = len(data)
        index["artifacts"][0]["manifest"] = sha256
        content[layout.manifest(sha256)] = data
        pairs = [("index.json", json.dumps(index).encode()), *sorted(content.items())]
        with pytest.raises(DataError, match=message):
            import_(other, pack(tmp_path / "a.tar", [member(*pair) for pair in pairs]))


def test_names_are_printed_on_one_line(family: dict, store: Store, other: Store, tmp_path: Path) -> None:
    export(store, "base/demo", tmp_path / "a.tar")
    with pytest.raises(DataError) as error:
        import_(other, changed(tmp_path / "a.tar", lambda index: index.update({"x\n\x1b[2J": 1})))
    assert error.value.message.isprintable()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, draft: Callable) -> bytes:
    """A small archive."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "a").write_bytes(b"a" * 600)
    store = in_memory()
    store.commit(draft(), folder, name="demo")
    export(store, "base/demo", folder / "a.tar")
    return (folder / "a.tar").read_bytes()


@given(data=st.data())
def test_no_damage_gets_in(
    data: st.DataObject, packed: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One byte changed, or the end cut off: an error in one line and an empty store, or the very artifact."""
    path = tmp_path_factory.mktemp("fuzz") / "a.tar"
    damaged = bytearray(packed)
    at = data.draw(st.integers(0, len(packed) - 1))
    if data.draw(st.booleans()):
        damaged[at] = data.draw(st.integers(0, 255))
    else:
        del damaged[at:]
    path.write_bytes(gzip.compress(damaged, 1) if data.draw(st.booleans()) else damaged)
    store, before = in_memory(), objects(in_memory())
    try:
        import_(store, path)
    except DataError:
        assert objects(store) == before
    else:
        assert store.verify() == []
        assert store.resolve("base/demo")[1].all_files().keys() == {"a"}


@given(data=st.binary(max_size=2000), packed_too=st.booleans())
def test_any_bytes_are_refused_in_one_line(
    data: bytes, packed_too: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.tar"
    path.write_bytes(gzip.compress(data) if packed_too else data)
    with pytest.raises(DataError) as error:
        import_(in_memory(), path)
    assert str(error.value).isprintable()
