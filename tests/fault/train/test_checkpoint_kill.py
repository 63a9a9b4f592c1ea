"""Checkpoints under SIGKILL: at random moments, and before every single file operation of a save.

A control writer, which saves in place, goes through the same storm: if it survives, the storm is too weak.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from artifacts.errors import DataError
from nanochat.train.checkpoint import load_checkpoint, save_checkpoint
from nanochat.train.published import latest_checkpoint, verify_checkpoint

KILLS = 200
CONTROL_KILLS = 60
SEED = 20
ELEMENTS = 500_000  # 2 MB a checkpoint
FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

Writer = Callable[[Path, int, torch.Tensor], object]
Reader = Callable[[Path], int | None]
Fork = Callable[[Callable[[], int]], int]


def write_ours(folder: Path, step: int, weights: torch.Tensor) -> None:
    save_checkpoint(folder, step, {"w": weights}, {"step": step})


def read_ours(folder: Path) -> int | None:
    """The newest step; DataError if what is found newest does not load or holds another step."""
    newest = latest_checkpoint(folder)
    if newest is None:
        return None
    tensors, state = load_checkpoint(newest)
    assert newest.name == f"step-{state['step']:08d}"
    assert tensors["w"][[0, -1]].tolist() == [state["step"]] * 2
    return state["step"]


def write_in_place(folder: Path, step: int, weights: torch.Tensor) -> None:
    path = folder / f"step-{step:08d}"
    path.mkdir(parents=True, exist_ok=True)
    with (path / "tensors.safetensors").open("wb") as file:
        file.write(to_bytes({"w": weights}))
    (path / "state.json").write_text(json.dumps({"step": step}))


def read_newest_name(folder: Path) -> int | None:
    names = sorted(path.name for path in folder.glob("step-*"))
    if not names:
        return None
    try:
        load_file(folder / names[-1] / "tensors.safetensors")
        return json.loads((folder / names[-1] / "state.json").read_bytes())["step"]
    except (OSError, ValueError, SafetensorError) as error:
        shutil.rmtree(folder / names[-1])
        raise DataError(f"{names[-1]}: {error}") from None


def storm(fork: Fork, folder: Path, write: Writer, read: Reader, kills: int) -> tuple[int, int, int]:
    """Kill a saving process again and again: (damaged newest, steps gone back, acknowledged saves)."""
    rng, damaged, regressions, acknowledged = random.Random(SEED), 0, 0, 0
    weights = torch.zeros(ELEMENTS)
    newest = 0

    for _ in range(kills):
        receive, send = os.pipe()

        def save_for_ever(start: int = newest, send: int = send) -> int:
            for step in itertools.count(start + 1):
                weights[[0, -1]] = step
                write(folder, step, weights)
                os.write(send, step.to_bytes(8, "little"))

        pid = fork(save_for_ever)
        os.close(send)
        select.select([receive], [], [], 30)  # until its first save is acknowledged
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with os.fdopen(receive, "rb") as pipe:
            promised = [int.from_bytes(pipe.read(8), "little") for _ in iter(lambda: pipe.peek(8), b"")]
        acknowledged += len(promised)
        try:
            found = read(folder) or 0
        except DataError:
            damaged += 1
            newest = max([newest, *promised])
        else:
            regressions += found < max([newest, *promised])
            newest = max(newest, found)
    return damaged, regressions, acknowledged


@pytest.mark.criterion("T01")
def test_random_kills_never_damage_the_newest_checkpoint_nor_take_back_a_save(fork, tmp_path: Path) -> None:
    damaged, regressions, acknowledged = storm(fork, tmp_path, write_ours, read_ours, KILLS)
    assert (damaged, regressions) == (0, 0), f"seed {SEED}"
    assert acknowledged >= KILLS
    assert sum(path.name.startswith(".tmp-") for path in tmp_path.iterdir()) <= 1
    write_ours(tmp_path, 10**6, torch.full((4,), 1e6))
    assert all(path.name.startswith("step-") for path in tmp_path.iterdir())


@pytest.mark.criterion("T01")
def test_the_same_storm_damages_checkpoints_written_in_place(fork, tmp_path: Path) -> None:
    damaged, _, acknowledged = storm(fork, tmp_path, write_in_place, read_newest_name, CONTROL_KILLS)
    assert acknowledged >= CONTROL_KILLS
    assert damaged >= CONTROL_KILLS / 2


def save_until_operation(folder: Path, last: int) -> Callable[[], int]:
    """A child's work: save step 3, but die before file operation ``last``; it returns their number."""

    def body() -> int:
        seen = 0

        def die(event: str, arguments: tuple) -> None:
            nonlocal seen
            if event in FILE_OPERATIONS:
                seen += 1
                if seen == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        write_ours(folder, 3, torch.full((8,), 3.0))
        return seen

    return body


@pytest.mark.criterion("T02")
def test_a_crash_before_any_file_operation_of_a_save_leaves_a_valid_newest(
    fork, exit_code, tmp_path: Path
) -> None:
    for step in (1, 2):
        write_ours(tmp_path / "start", step, torch.full((8,), float(step)))
    shutil.copytree(tmp_path / "start", tmp_path / "whole")
    operations = exit_code(fork(save_until_operation(tmp_path / "whole", 0)))
    assert 15 <= operations < 255
    newest = []
    for last in range(1, operations + 1):
        folder = tmp_path / f"crash-{last}"
        shutil.copytree(tmp_path / "start", folder)
        assert exit_code(fork(save_until_operation(folder, last))) == -signal.SIGKILL
        newest.append(read_ours(folder))
        write_ours(folder, 4, torch.full((8,), 4.0))
        assert read_ours(folder) == 4
        assert not list(folder.glob(".tmp-*"))
    assert newest == sorted(newest)
    assert set(newest) == {2, 3}


@pytest.mark.criterion("T12")
@pytest.mark.parametrize("best", [None, 2])
def test_an_observer_always_sees_two_valid_checkpoints_and_the_best(
    fork, exit_code, tmp_path: Path, best: int | None
) -> None:
    """The observer looks before each file operation of the saving process: no interleaving is left out."""
    seen: list[int] = []
    saved = 0
    watching = False

    def valid() -> int:
        paths = [path for path in tmp_path.iterdir() if path.name.startswith("step-")]
        for path in paths:
            verify_checkpoint(path)
        return len(paths)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal watching
        if event in FILE_OPERATIONS and not watching and saved:
            watching = True
            seen.append(valid() - min(2, saved) - (best is not None and saved > best + 1))
            watching = False

    def body() -> int:
        nonlocal saved
        sys.addaudithook(watch)
        for step in range(1, 8):
            save_checkpoint(tmp_path, step, {"w": torch.full((8,), float(step))}, {"step": step}, best=best)
            saved += 1
        assert len(seen) > 50
        return int(min(seen) < 0)

    assert exit_code(fork(body)) == 0
