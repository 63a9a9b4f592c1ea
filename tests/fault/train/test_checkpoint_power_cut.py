"""Checkpoints and the power cut: whatever of the un-synced writes is lost, what loads is what was saved.

Three writers that each leave something out meet the same crashes: if one passes, the crashes are too few.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from artifacts import atomic
from artifacts.errors import DataError
from nanochat.train import checkpoint
from nanochat.train.published import STATE, TENSORS
from nanochat.train.resume import newest_checkpoint
from tests.fault.train.disk import Recorder, Tree, build, crashes, record

SEED = 3
MOST = 45  # crashes of one moment
CPU = torch.device("cpu")

Saved = tuple[dict[str, torch.Tensor], dict[str, int]]
Writer = Callable[[Path, Saved], object]
Reader = Callable[[Path], Saved | None]


def made(step: int, attempt: int = 0) -> Saved:
    """What is saved at a step; a second attempt comes to other numbers, as it may on a GPU."""
    weights = torch.arange(256.0) + step + attempt / 2
    return {"w": weights, "half": weights[:8].bfloat16()}, {"step": step, "attempt": attempt}


def is_what_was_saved(found: Saved) -> bool:
    tensors, state = found
    expected, _ = made(state["step"], state["attempt"])
    return tensors.keys() == expected.keys() and all(
        torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype
        for name, tensor in expected.items()
    )


def write_ours(folder: Path, saved: Saved) -> None:
    tensors, state = saved
    checkpoint.save_checkpoint(folder, state["step"], tensors, state)


def read_ours(folder: Path) -> Saved | None:
    """As a run that resumes."""
    return newest_checkpoint(folder, CPU)


def write_in_place(folder: Path, saved: Saved) -> None:
    """Over the one before, as many a script does."""
    tensors, state = saved
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(state))


def read_in_place(folder: Path) -> Saved | None:
    try:
        return load_file(folder / TENSORS), json.loads((folder / STATE).read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, SafetensorError) as error:
        raise DataError(f"{folder}: {error}") from None


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def saves(write: Writer) -> Callable[[Recorder, Path], None]:
    """A program that saves five steps: over what a killed save left, and step 3 again, which was damaged."""

    def save(disk: Recorder, folder: Path, step: int, attempt: int = 0) -> None:
        write(folder, made(step, attempt))
        disk.promise = step

    def program(disk: Recorder, folder: Path) -> None:
        for step in (1, 2, 3):
            save(disk, folder, step)
        disk.promise = 2
        damaged = max(folder.rglob(TENSORS))
        damaged.write_bytes(damaged.read_bytes()[:-1])
        sync(damaged)
        save(disk, folder, 3, attempt=1)
        left = folder / ".tmp-step-00000004"
        left.mkdir()
        (left / TENSORS).write_bytes(b"half of it")
        for step in (4, 5):
            save(disk, folder, step)

    return program


@pytest.fixture
def states(fork, exit_code, tmp_path: Path) -> Callable[..., dict[Tree, int]]:
    """``states(write)``: what power cuts may leave of the program, and the newest step acknowledged to it."""

    def found(write: Writer, most: int = MOST) -> dict[Tree, int]:
        program = saves(write)
        disk = tmp_path / "disk"
        return crashes(record(fork, exit_code, disk, lambda seen: program(seen, disk / "ck")), SEED, most)

    return found


def verdict(folder: Path, read: Reader, promise: int) -> str:
    try:
        found = read(folder)
    except DataError:
        return "lost" if promise else "refused"
    if found is None:
        return "lost" if promise else "none yet"
    if not is_what_was_saved(found):
        return "wrong bytes"
    return "right" if found[1]["step"] >= promise else "lost"


@pytest.mark.criterion("T03")
def test_no_power_cut_makes_a_load_wrong_or_takes_back_a_save(states, tmp_path: Path, monkeypatch) -> None:
    found = states(write_ours)
    verdicts: Counter[str] = Counter()
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the power stays on now
    for number, (tree, promise) in enumerate(found.items()):
        folder = build(tree, tmp_path / str(number)) / "ck"
        verdicts[verdict(folder, read_ours, promise)] += 1
        write_ours(folder, made(6))
        assert verdict(folder, read_ours, 6) == "right", (SEED, number)
        assert not list(folder.glob(".tmp-*"))
    assert verdicts.total() == len(found) >= 500
    assert verdicts.keys() == {"right", "none yet"}, (SEED, verdicts)


def count(states: dict[Tree, int], read: Reader, tmp_path: Path) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    for number, (tree, promise) in enumerate(states.items()):
        verdicts[verdict(build(tree, tmp_path / str(number)) / "ck", read, promise)] += 1
    return verdicts


@pytest.mark.criterion("T03")
@pytest.mark.parametrize("left_out", ["_sync_file", "sync_directory"])
def test_a_writer_that_leaves_out_a_sync_loses_what_it_acknowledged(
    states, tmp_path: Path, monkeypatch, left_out: str
) -> None:
    monkeypatch.setattr(atomic, left_out, lambda _: None)
    verdicts = count(states(write_ours, most=5), read_ours, tmp_path)
    assert verdicts["lost"] > 20
    assert not verdicts["wrong bytes"]


@pytest.mark.criterion("T03")
def test_a_writer_in_place_has_wrong_bytes_loaded(states, tmp_path: Path) -> None:
    verdicts = count(states(write_in_place, most=60), read_in_place, tmp_path)
    assert verdicts["wrong bytes"] >= 5
