"""Damaged, hostile and unwritable checkpoints: refused by name, nothing executed, older ones untouched."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from artifacts.atomic import digest_into
from artifacts.errors import DataError, ResourceError
from nanochat.train.checkpoint import load_checkpoint, save_checkpoint
from nanochat.train.published import MANIFEST, STATE, TENSORS, latest_checkpoint

ROOT = Path(__file__).resolve().parents[3]
FILES = (TENSORS, STATE, MANIFEST)
BIG = torch.zeros(1 << 19)  # 2 MB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, of steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint(tmp_path / "ck", step, {"w": torch.arange(100.0) + step}, {"step": step})
    return tmp_path / "ck"


def assert_refused(folder: Path, named: str) -> None:
    newest = folder / "step-00000002"
    with pytest.raises(DataError, match=named):
        load_checkpoint(newest)
    assert latest_checkpoint(folder) == folder / "step-00000001"
    assert load_checkpoint(folder / "step-00000001")[1] == {"step": 1}


@pytest.mark.criterion("T04")
@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_refused_and_the_file_named(folder: Path, name: str) -> None:
    path, rng = folder / "step-00000002" / name, random.Random(4)
    original = path.read_bytes()
    for _ in range(20):
        position, bit = rng.randrange(len(original)), 1 << rng.randrange(8)
        flipped = original[:position] + bytes([original[position] ^ bit]) + original[position + 1 :]
        path.write_bytes(flipped)
        assert_refused(folder, name)
    path.write_bytes(original)
    assert load_checkpoint(path.parent)[1] == {"step": 2}


@pytest.mark.criterion("T05")
@pytest.mark.parametrize("name", FILES)
def test_any_cut_is_refused_and_the_file_named(folder: Path, name: str) -> None:
    path = folder / "step-00000002" / name
    original = path.read_bytes()
    for size in (0, 1, len(original) // 2, len(original) - 1):
        path.write_bytes(original[:size])
        assert_refused(folder, name)
    path.unlink()
    assert_refused(folder, name)


@pytest.mark.criterion("T05")
def test_an_added_file_or_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    newest = folder / "step-00000002"
    (newest / "more.bin").write_bytes(b"")
    assert_refused(folder, "more.bin")
    (newest / "more.bin").unlink()
    (newest / STATE).unlink()
    (newest / STATE).mkdir()
    assert_refused(folder, STATE)


def test_a_checkpoint_under_the_name_of_another_step_is_refused(folder: Path) -> None:
    shutil.copytree(folder / "step-00000001", folder / "step-00000003")
    shutil.rmtree(folder / "step-00000002")
    shutil.move(folder / "step-00000003", folder / "step-00000002")
    assert_refused(folder, "describes something else")


def forge(path: Path, **contents: bytes) -> None:
    """Replace files of a checkpoint and make the manifest fit them."""
    manifest = json.loads((path / MANIFEST).read_bytes())
    for name, data in contents.items():
        (path / name).write_bytes(data)
    for entry in manifest["files"]:
        file = path / entry["path"]
        entry.update(size=file.stat().st_size, sha256=digest_into(file))
    (path / MANIFEST).write_text(json.dumps(manifest))


class Gadget:
    """Unpickling it would create the canary file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.criterion("T14")
@pytest.mark.parametrize("name", [TENSORS, STATE])
def test_a_pickle_or_a_yaml_tag_in_a_forged_checkpoint_is_never_executed(folder, tmp_path, name) -> None:
    canary = tmp_path / "canary"
    torch.save(Gadget(canary), tmp_path / "gadget.pt")
    tag = f"!!python/object/apply:os.mkdir [{canary}]".encode()
    for hostile in (pickle.dumps(Gadget(canary)), (tmp_path / "gadget.pt").read_bytes(), tag):
        forge(folder / "step-00000002", **{name: hostile})
        with pytest.raises(DataError, match="step-00000002"):
            load_checkpoint(folder / "step-00000002")
        assert not canary.exists()
    pickle.loads(pickle.dumps(Gadget(canary)))
    assert canary.exists()


@pytest.mark.criterion("T14")
def test_a_huge_header_is_refused_without_being_read(fork, exit_code, folder: Path) -> None:
    newest = folder / "step-00000002"
    with (newest / TENSORS).open("wb") as file:
        file.write((200 << 20).to_bytes(8, "little"))
        file.truncate((200 << 20) + 8)
    forge(newest)

    def body() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(DataError, match="header of 209715200 bytes"):
            load_checkpoint(newest)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return int(grown_kib > 20 << 10)

    assert exit_code(fork(body)) == 0  # a fresh process, so that its peak memory is that of this load


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill_then_free(folder: Path, fill: Callable[[], object], free: Callable[[], object]) -> None:
    """Save until it fails under ``fill``: typed error, nothing changed; after ``free`` saving works again."""
    before = contents(folder)
    fill()
    with pytest.raises(ResourceError, match="step-00000003"):
        save_checkpoint(folder, 3, {"w": BIG}, {"step": 3})
    assert contents(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002"]
    free()
    save_checkpoint(folder, 3, {"w": BIG}, {"step": 3})
    assert latest_checkpoint(folder) == folder / "step-00000003"


@pytest.mark.criterion("T11")
@pytest.mark.parametrize("limit", [10, 1 << 20])
def test_a_file_size_limit_leaves_everything_as_it_was(fork, exit_code, folder: Path, limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def body() -> int:
        fill_then_free(
            folder,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)),
        )
        return 0

    assert exit_code(fork(body)) == 0


@pytest.mark.criterion("T11")
@pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode != 0,
    reason="no user namespaces",
)
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """On a tmpfs in a user namespace, in a process of its own: ``main`` below."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=8m none "$2" && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", mount, sys.executable, __file__, str(disk)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr


def main(disk: Path) -> None:
    """Save 2 MB where 1 MB, then where 4 KB are left."""
    for left_bytes in (1 << 20, 4096):
        folder, ballast = disk / f"left-{left_bytes}", disk / "ballast"
        for step in (1, 2):
            save_checkpoint(folder, step, {"w": torch.arange(100.0) + step}, {"step": step})
        space = os.statvfs(disk)
        taken = b"x" * (space.f_bavail * space.f_bsize - left_bytes)
        fill_then_free(folder, partial(ballast.write_bytes, taken), ballast.unlink)
    print("passed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
