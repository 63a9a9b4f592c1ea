"""Toy runs against stored losses, and against themselves: seeds, threads, micro-batches.

After a wanted change of the numerics: ``python -m tests.golden.test_losses`` writes ``losses.json`` anew.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch

from nanochat.config.model import ARCHITECTURES
from nanochat.model import loss
from tests.golden.toy import Outcome, train_toy

GOLDEN = Path(__file__).with_name("losses.json")
STEPS = 30


def losses_of(folder: Path, architecture: str) -> list[float]:
    """What is stored: of every step, to seven digits."""
    return [float(f"{x:.7g}") for x in train_toy(folder, steps=STEPS, architecture=architecture).losses]


def gap(mine: list[float], theirs: list[float]) -> float:
    return max(abs(a - b) / b for a, b in zip(mine, theirs, strict=True))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train_toy(tmp_path_factory.mktemp("plain"), steps=10)


@pytest.mark.criterion("T31")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_the_stored_ones(tmp_path: Path, architecture: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = losses_of(tmp_path, architecture)
    assert gap(found, golden["losses"][architecture]) <= golden["relative_tolerance"]
    assert found[-1] < 0.8 * found[0]


@pytest.mark.criterion("T30")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_seed_decides_every_bit(tmp_path: Path, repository: Path, threads: str) -> None:
    program = """if True:
        import hashlib, json, sys
        from pathlib import Path
        import torch
        from tests.golden.toy import train_toy

        assert torch.get_num_threads() == int(sys.argv[2])
        for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
            outcome = train_toy(Path(sys.argv[1], name), steps=50, seed=seed)
            weights = b"".join(tensor.numpy().tobytes() for tensor in outcome.weights.values())
            print(json.dumps([hashlib.sha256(weights).hexdigest(), *outcome.losses]))
    """
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}  # no spinning
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), threads],
        capture_output=True, text=True, cwd=repository, env=environment, timeout=300,
    )  # fmt: skip
    first, again, other = map(json.loads, done.stdout.splitlines())
    assert len(first) == 51
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.criterion("T32")
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_how_a_batch_is_cut_changes_next_to_nothing(tmp_path: Path, micro_batch: int, plain: Outcome) -> None:
    cut = train_toy(tmp_path, steps=10, micro_batch=micro_batch)
    assert gap(cut.losses, plain.losses) <= 1e-6


@pytest.mark.criterion("T32")
def test_compiled_the_losses_are_next_to_the_same(
    tmp_path: Path, plain: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated as for a GPU, but without two minutes of generating code for a CPU."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(loss, "_compiled", functools.cache(loss._compiled.__wrapped__))
    compiled = train_toy(tmp_path, steps=10, compile="on")
    assert any(not torch.equal(tensor, plain.weights[name]) for name, tensor in compiled.weights.items())
    assert gap(compiled.losses, plain.losses) <= 1e-5
    assert list(compiled.weights) == list(plain.weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_full_precision(tmp_path: Path, plain: Outcome, dtype: torch.dtype) -> None:
    half = train_toy(tmp_path, steps=10, dtype=dtype)
    assert 0 < gap(half.losses, plain.losses) <= 2e-2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {name: losses_of(Path(folder, name), name) for name in ARCHITECTURES}
    GOLDEN.write_text(json.dumps({"relative_tolerance": 1e-5, "losses": found}, indent=1) + "\n")
