"""``nanochat calc``: numbers before anything is spent, without a store and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.settings import PROJECT_ROOT
from nanochat.config.derive import Dials, model_shape
from nanochat.config.pipeline import resolve
from nanochat.model.cost import flops_per_token, parameters
from nanochat.model.memory import Batch, training_memory
from nanochat.presets import PRESETS

Cli = Callable[..., Any]


def asked(cli: Cli, *arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(cli("calc", *arguments, "--json").out)
    return said


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("preset", PRESETS)
def test_it_says_what_the_preset_would_train(preset: str, cli: Cli) -> None:
    said, base = asked(cli, preset), resolve(preset)["base"]
    assert said["model"] == base.model.model_dump()
    assert said["parameters"]["total"] == parameters(base.model).total
    assert said["tokens"] == said["steps"] * said["batch_tokens"] == base.steps * base.batch_tokens
    assert said["flops"] == said["tokens"] * flops_per_token(base.model)


def test_the_parts_add_up(cli: Cli) -> None:
    said = asked(cli, "d12")
    counted = said["parameters"]
    assert sum(number for part, number in counted.items() if part != "total") == counted["total"]
    memory = said["memory"]
    state = sum(memory[part] for part in ("weights", "muon_momentum", "muon_variance", "adamw_moments"))
    passing = sum(memory[part] for part in ("gradients", "casts", "activations", "loss"))
    assert memory["peak"] == state + passing
    model = model_shape(Dials(depth=12))
    assert memory["peak"] == training_memory(model, Batch(rows=32, passes=8, ranks=1)).peak


def test_time_and_price_follow_from_the_share_of_the_peak(cli: Cli) -> None:
    said = asked(cli, "--depth", "24", "--gpus", "8", "--mfu", "0.5")
    hours = said["flops"] / (8 * 989.4e12 * 0.5) / 3600
    assert said["seconds"] == pytest.approx(3600 * hours)
    assert said["dollars"] == pytest.approx(8 * hours * 3.0)
    assert said["tokens_per_second"] == pytest.approx(said["tokens"] / said["seconds"])
    own = asked(cli, "--depth", "24", "--gpus", "8", "--mfu", "0.25", "--price", "1", "--peak-tflops", "500",
                "--memory-gb", "48")  # fmt: skip
    assert own["seconds"] == pytest.approx(said["seconds"] * 2 * 989.4 / 500)
    assert own["dollars"] == pytest.approx(own["seconds"] / 3600 * 8)
    assert own["gpu"]["memory_bytes"] == 48e9


def test_what_fits_follows_from_the_memory(cli: Cli) -> None:
    large, small = (asked(cli, "d24", "--gpu", gpu) for gpu in ("b200", "4090"))
    assert (large["fits"], small["fits"]) == (True, False)
    assert large["largest_micro_batch"]["plain"] >= large["micro_batch"]
    assert small["largest_micro_batch"]["plain"] < small["largest_micro_batch"]["checkpointing"]
    advised = small["largest_micro_batch"]["plain"]
    again = asked(cli, "d24", "--gpu", "4090", "--set", f"micro_batch={advised}")
    assert again["fits"]
    kept = asked(cli, "d24", "--gpu", "4090", "--set", "base.activation_checkpointing=true")
    assert kept["memory"]["peak"] < small["memory"]["peak"]


def test_no_more_rows_are_advised_than_a_step_has(cli: Cli) -> None:
    assert asked(cli, "tiny")["largest_micro_batch"] == {"plain": 4, "checkpointing": 4}


def test_people_get_tables(cli: Cli) -> None:
    lines = rows(cli("calc", "d24", "--gpus", "8").out)
    for line in (
        "total 1,384,122,122 100.0%", "FLOPs per token 4.775e+09", "time 2 h 56 min",
        "price $70.45 at $3.00 an hour and GPU",
        "KV cache: 147.5 kB a token up to the windows, 139.2 MB for 2,048 tokens",
        "tokens 8,757,706,752 (12 per scaling parameter)",
    ):  # fmt: skip
        assert line in lines
    assert any("DOES NOT FIT" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "of which model? (nanochat calc d12, or nanochat calc --depth 12)"),
        (("d13",), "unknown preset 'd13'"),
        (("d12", "--gpu", "h10"), "unknown GPU 'h10' (did you mean h100?)"),
        (("d12", "--mfu", "40"), "--mfu 40 (a share of the peak"),
        (("d12", "--price", "-1"), "--price -1 (a number above 0)"),
        (("tiny", "--gpus", "3"), "batch_tokens = 512 is not a multiple of 1536"),
        (("--depth", "0"), "depth = 0"),
    ],
)
def test_what_cannot_be_computed_is_one_line(arguments: tuple[str, ...], said: str, cli: Cli) -> None:
    ended = cli("calc", *arguments, rc=2)
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_it_needs_neither_torch_nor_a_store(tmp_path: Path) -> None:
    program = (
        "import sys; from flows.cli import main\n"
        "try: main(['calc', 'd12'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'prefect', 'duckdb', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
        env={"PATH": "", "NANOCHAT_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "home").exists()
