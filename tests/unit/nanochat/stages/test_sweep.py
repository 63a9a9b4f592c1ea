"""The sweep stage on made-up models: what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import DataError
from nanochat.config.derive import Dials, model_shape, scaling_parameters
from nanochat.model.cost import flops_per_token, parameters
from nanochat.runtime import StageContext
from nanochat.stages import sweep
from nanochat.stages.sweep import SweepConfig, run

FILES = {"sweep.json", "sweep.csv", "sweep.html", "sweep.png"}
CORPUS = 50_000


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def shape(depth: int) -> Any:
    return model_shape(Dials(depth=depth, aspect_ratio=16, head_dim=16, seq_len=128, vocab_size=512))


def write_model(folder: Path, depth: int, tokens: int, loss: float) -> Path:
    write(folder / "config.json", shape(depth).model_dump())
    ledger = {"seen_tokens": tokens + 2000, "left_tokens": 2000}
    write(folder / "meta.json", {"stage": "base", "steps": 50, "tokens": tokens, "ledger": ledger})
    write(folder / "losses.json", {"val_metric": "val_bpb", "train": [], "val": [[0, 9.0], [50, loss]]})
    return folder


def write_evaluation(folder: Path, solved: float) -> Path:
    row = {"split": "test", "n": 4, "ci_low": None, "ci_high": None}
    rows = [
        {**row, "name": "val_bpb", "task": None, "value": 1.5},
        {**row, "name": "eval/accuracy", "task": "docs", "value": solved},
        {**row, "name": "eval/token_f1", "task": "docs", "value": 0.9},
        {**row, "name": "core", "task": None, "value": 0.2},
    ]
    write(folder / "results.json", {"metrics": rows, "problems": {}, "samples": []})
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Two budgets of three depths: the first has its lowest loss in the middle, the second has not."""
    made = {"tokens": tmp_path / "tokens"}
    for number, (split, tokens) in enumerate([("train", CORPUS - 10), ("val", 10**9)]):
        about = {"split": split, "tokens": tokens, "rows": 10}
        write(made["tokens"] / f"shard_0000{number}.json", about)
    for budget, losses in (("1e10", (2.1, 2.0, 2.2)), ("2e10", (2.0, 1.9, 1.8))):
        for depth, loss in zip((2, 3, 4), losses, strict=True):
            tokens = round(float(budget) / flops_per_token(shape(depth)))
            made[f"{budget}-d{depth}"] = write_model(tmp_path / f"{budget}-d{depth}", depth, tokens, loss)
    return made


def budgets(inputs: dict[str, Path]) -> dict[str, float]:
    return {role: float(role.partition("-")[0]) for role in inputs if role != "tokens"}


def result(inputs: dict[str, Path], output: Path, **config: Any) -> tuple[dict[str, Any], Any]:
    """(sweep.json, the stage's summary)."""
    output.mkdir()
    summary = run(StageContext(inputs, output, output, output), SweepConfig(**config))
    return json.loads((output / "sweep.json").read_text(encoding="utf-8")), summary


def laws(inputs: dict[str, Path], output: Path) -> tuple[dict[str, Any], Any]:
    return result(inputs, output, kind="scaling-laws", budgets=budgets(inputs), title="A & <B>")


def test_every_model_is_a_point_with_its_cost(inputs: dict[str, Path], tmp_path: Path) -> None:
    found, _ = laws(inputs, tmp_path / "out")
    points = {point["role"]: point for point in found["points"]}
    assert list(points) == [f"{budget}-d{depth}" for budget in ("1e10", "2e10") for depth in (2, 3, 4)]
    point, model = points["2e10-d3"], shape(3)
    assert (point["depth"], point["budget"], point["val_bpb"], point["steps"]) == (3, 2e10, 1.9, 50)
    assert point["parameters"] == scaling_parameters(model)
    assert point["total_parameters"] == parameters(model).total
    assert point["flops"] == pytest.approx(2e10, rel=1e-4)
    assert point["passes"] == pytest.approx(point["tokens"] / CORPUS)


def test_what_was_found_is_in_every_form(inputs: dict[str, Path], tmp_path: Path) -> None:
    found, summary = laws(inputs, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert [valley["verdict"].partition(":")[0] for valley in found["valleys"]] == [
        "bracketed",
        "not bracketed",
    ]
    assert (summary.key_metric, summary.metrics["models"]) == ("tokens_per_parameter", 6)
    assert summary.metrics["best_val_bpb"] == 1.8
    rows = list(csv.DictReader((tmp_path / "out" / "sweep.csv").open(encoding="utf-8")))
    assert [row["role"] for row in rows] == [point["role"] for point in found["points"]]
    page = (tmp_path / "out" / "sweep.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; &lt;B&gt;</h1>" in page
    assert page.count("<svg") == 2
    assert "No power law: it takes two budgets" in page
    assert not re.search(r"(?:src|href)=\"?http|@import|<script", page)


def test_a_miniseries_has_no_budgets_but_evaluations(inputs: dict[str, Path], tmp_path: Path) -> None:
    chosen = {"tokens": inputs["tokens"]}
    for budget, depth in (("1e10", 2), ("2e10", 4)):
        chosen[f"d{depth}"] = inputs[f"{budget}-d{depth}"]
        chosen[f"eval-d{depth}"] = write_evaluation(tmp_path / f"eval-{depth}", depth / 10)
    found, summary = result(chosen, tmp_path / "out", kind="miniseries")
    assert [(point["role"], point["budget"]) for point in found["points"]] == [("d2", None), ("d4", None)]
    assert [point["evaluation"] for point in found["points"]] == [
        {"docs": 0.2, "core": 0.2}, {"docs": 0.4, "core": 0.2},
    ]  # fmt: skip
    assert summary.key_metric == "best_val_bpb"
    assert "loss_exponent" in summary.metrics
    assert "Budgets" not in (tmp_path / "out" / "sweep.html").read_text(encoding="utf-8")


def test_equal_models_give_equal_files(inputs: dict[str, Path], tmp_path: Path) -> None:
    for output in ("first", "second"):
        laws(inputs, tmp_path / output)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / o).iterdir()} for o in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("file", ["meta.json", "config.json", "losses.json"])
@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_broken_model_is_named(
    file: str, content: str | None, inputs: dict[str, Path], tmp_path: Path
) -> None:
    broken = inputs["1e10-d3"] / file
    broken.unlink() if content is None else broken.write_text(content)
    with pytest.raises(DataError, match="1e10-d3"):
        laws(inputs, tmp_path / "out")


def test_tokens_without_a_training_split_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    (inputs["tokens"] / "shard_00000.json").unlink()
    with pytest.raises(DataError, match="no training tokens"):
        laws(inputs, tmp_path / "out")


def test_the_page_is_part_of_the_identity(repository: Path) -> None:
    digests = sweep.identity_extra(SweepConfig(kind="miniseries"))
    folder = repository / "nanochat/report/templates"
    assert digests == {
        name: sha256((folder / name).read_bytes()).hexdigest() for name in ("sweep.html.j2", "page.css")
    }
