"""Hostile archives: each is refused in one line, and neither the store nor the disk notices it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.archive import MAX_MEMBERS
from artifacts.archive_export import export
from artifacts.archive_import import import_
from artifacts.errors import DataError
from artifacts.store import Store

WRITTEN_AT_MOST = 50 << 20
BOMB_BYTES = 300 << 20
Content = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def store(home: Path, tmp_path: Path, draft: Callable, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with one artifact; everything that is written anywhere lies under ``tmp_path``."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "temporary")
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload" / "model.bin").write_bytes(b"weights")
    store = Store.open(str(tmp_path / "store"))
    store.commit(draft(), tmp_path / "payload", name="demo")
    return store


@pytest.fixture
def honest(store: Store, tmp_path: Path) -> Content:
    """The members of a good archive."""
    export(store, "base/demo", tmp_path / "good.tar")
    with tarfile.open(tmp_path / "good.tar") as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def pack(path: Path, content: Content) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in content:
            tar.addfile(info, io.BytesIO(data))


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def promising(content: Content, more: dict[str, int]) -> Content:
    """The archive with an index that lists these members too."""
    index = json.loads(content[0][1])
    index["members"] |= more
    return [member("index.json", json.dumps(index).encode()), *content[1:]]


def outside(path: Path, honest: Content) -> None:
    pack(path, promising([*honest, member("../evil", b"x")], {"../evil": 1}))


def unannounced_outside(path: Path, honest: Content) -> None:
    pack(path, [*honest, member("../evil", b"x")])


def absolute(path: Path, honest: Content) -> None:
    target = str(path.parent / "evil")
    pack(path, promising([*honest, member(target, b"x")], {target: 1}))


def linked(kind: bytes) -> Callable[[Path, Content], None]:
    def write(path: Path, honest: Content) -> None:
        (blob, data), *rest = honest[1:]
        pack(path, [honest[0], member(blob.name, kind=kind, link="/etc/passwd"), *rest, (blob, data)])

    return write


def fat_member(path: Path, honest: Content) -> None:
    """A member far larger than the index says, behind a small file."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        index, blob, *_ = honest
        for info, size in ((index[0], len(index[1])), (blob[0], BOMB_BYTES)):
            header = tarfile.TarInfo(info.name)
            header.size = size
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            if size == BOMB_BYTES:
                for _ in range(BOMB_BYTES >> 20):
                    file.write(bytes(1 << 20))
            else:
                file.write(index[1] + bytes(-size % tarfile.BLOCKSIZE))


def true_bomb(path: Path, honest: Content) -> None:
    """All that it says is true: hundreds of megabytes of nothing."""
    digest = hashlib.sha256()
    for _ in range(BOMB_BYTES >> 20):
        digest.update(bytes(1 << 20))
    name = f"blobs/sha256/{digest.hexdigest()[:2]}/{digest.hexdigest()}"
    header = tarfile.TarInfo(name)
    header.size = BOMB_BYTES
    content = promising(honest, {name: BOMB_BYTES})
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(content[0][0].tobuf(tarfile.GNU_FORMAT) + content[0][1])
        file.write(bytes(-len(content[0][1]) % tarfile.BLOCKSIZE) + header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(BOMB_BYTES >> 20):
            file.write(bytes(1 << 20))


def fat_header(path: Path, honest: Content) -> None:
    """A long-name header whose name has hundreds of megabytes."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, BOMB_BYTES
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(BOMB_BYTES >> 20):
            file.write(b"a" * (1 << 20))


def many(path: Path, honest: Content) -> None:
    """100,000 members that the index announces."""
    names = [f"{n:064x}" for n in range(100_000)]
    keys = [f"blobs/sha256/{name[:2]}/{name}" for name in names]
    pack(path, promising([*honest, *(member(key) for key in keys)], dict.fromkeys(keys, 0)))


def many_unannounced(path: Path, honest: Content) -> None:
    pack(path, [honest[0], *(member(f"file{n}") for n in range(100_000))])


def twice(path: Path, honest: Content) -> None:
    pack(path, [*honest[:2], *honest[1:]])


def other_case(path: Path, honest: Content) -> None:
    info, data = honest[1]
    name = info.name[:-64] + info.name[-64:].upper()
    pack(path, promising([*honest[:2], member(name, data), *honest[2:]], {name: len(data)}))


NO_KEY = "which is no blob and no manifest"
HOSTILE = {
    "../": [(outside, NO_KEY), (unannounced_outside, "not in its index")],
    "absolute": [(absolute, NO_KEY)],
    "symlink": [(linked(tarfile.SYMTYPE), "is a symbolic link")],
    "hardlink": [(linked(tarfile.LNKTYPE), "is a hard link")],
    "device": [
        (linked(tarfile.CHRTYPE), "is a device"), (linked(tarfile.BLKTYPE), "is a device"),
        (linked(tarfile.FIFOTYPE), "is a fifo"),
    ],
    "bomb": [(fat_member, "bytes, not"), (true_bomb, "times its size"), (fat_header, "of type b'L'")],
    "100k entries": [(many, "at most 50000"), (many_unannounced, "where its index has")],
    "case clash": [(other_case, NO_KEY), (twice, "where its index has")],
}  # fmt: skip
CASES = [
    pytest.param(write, message, id=f"{kind} {n}")
    for kind, ways in HOSTILE.items()
    for n, (write, message) in enumerate(ways, start=1)
]


@pytest.fixture
def written() -> Callable[[], int]:
    """How many bytes this process has sent to files since the test began, as the kernel counts."""

    def count() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["wchar"])

    return count


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.criterion("T46")
@pytest.mark.parametrize(("write", "message"), CASES)
def test_a_hostile_archive_is_refused(
    write: Callable[[Path, Content], None], message: str, store: Store, honest: Content, tmp_path: Path,
    written: Callable[[], int],
) -> None:  # fmt: skip
    path = tmp_path / "hostile.tar"
    write(path, honest)
    files, bytes_before = snapshot(tmp_path), written()
    with pytest.raises(DataError, match=message) as error:
        import_(store, path)
    assert written() - bytes_before <= WRITTEN_AT_MOST
    assert snapshot(tmp_path) == files
    assert str(error.value).isprintable()
    assert error.value.message.startswith("hostile.tar: ")
    assert not (tmp_path.parent / "evil").exists()


def test_the_archive_that_these_are_made_from_is_good(store: Store, honest: Content, tmp_path: Path) -> None:
    assert MAX_MEMBERS < 100_000
    pack(tmp_path / "again.tar", honest)
    there = Store.open(str(tmp_path / "there"))
    assert [str(item.ref) for item in import_(there, tmp_path / "again.tar")] == ["base/demo@v1"]
    assert os.listdir(tmp_path / "temporary") == []
