"""``nanochat sweep``: what is typed becomes a sweep, and what it found is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.result import StageResult
from flows.sweep.params import SweepParams
from flows.sweep.run import SweepOutcome
from nanochat.report.sweep import Point, Sweep

Cli = Callable[..., Any]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SweepParams]:
    """What was asked for; instead of training, three models are there."""
    points = [
        Point(f"d{n}", n, None, 10**n, 10**n, 40, 10**n, 10.0**n, 0.5, 2 - n / 10, {}) for n in (2, 3, 4)
    ]
    sweep = Sweep.of("miniseries", points)
    (tmp_path / "sweep.json").write_text(json.dumps(sweep.as_json()), encoding="utf-8")
    last = StageResult(
        stage="sweep", status="cached", artifact="report/tiny-sweep@v1", digest="0" * 64, manifest="0" * 64,
        seconds=0.0,
    )  # fmt: skip
    heard: list[SweepParams] = []

    def execute(params: SweepParams, observer: object) -> SweepOutcome:
        heard.append(params)
        return SweepOutcome([last], tmp_path, tmp_path / "sweep.html")

    monkeypatch.setattr("flows.cli.sweep.execute_sweep", execute)
    return heard


def test_depths_make_a_miniseries(cli: Cli, asked: list[SweepParams]) -> None:
    cli("sweep", "tiny", "--depths", "2", "3", "--set", "tokens_per_parameter=1", "--name", "n", "--evaluate")
    assert asked == [
        SweepParams(preset="tiny", depths=[2, 3], set={"tokens_per_parameter": 1}, name="n", evaluate=True)
    ]


def test_budgets_make_scaling_laws(cli: Cli, asked: list[SweepParams]) -> None:
    cli("sweep", "tiny", "--depths", "2", "3", "4", "--flops", "1e10", "2e10", "--at-once", "4")
    assert (asked[0].kind, asked[0].flops_budgets, asked[0].at_once) == ("scaling-laws", [1e10, 2e10], 4)


def test_people_get_a_table_and_sentences(cli: Cli, asked: list[SweepParams], tmp_path: Path) -> None:
    lines = [
        " ".join(line.split()) for line in cli("sweep", "tiny", "--depths", "2", "3", "4").out.splitlines()
    ]
    assert "d3 1,000 1,000 1 40 1e3 1.7000" in lines
    assert "d4 is best: 1.6000 bits per byte." in lines
    assert lines[-1] == f"report/tiny-sweep@v1: {tmp_path}/sweep.html"


def test_programs_get_everything(cli: Cli, asked: list[SweepParams], tmp_path: Path) -> None:
    document = json.loads(cli("sweep", "tiny", "--depths", "2", "3", "--json").out)
    assert (document["artifact"], document["status"]) == ("report/tiny-sweep@v1", "cached")
    assert document["page"] == str(tmp_path / "sweep.html")
    assert [point["role"] for point in document["points"]] == ["d2", "d3", "d4"]
    assert document["laws"]["loss"]["exponent"] < 0


def test_a_dry_run_says_what_would_be_trained_and_opens_nothing(
    cli: Cli, asked: list[SweepParams], home: Path
) -> None:
    said = cli("sweep", "tiny", "--depths", "2", "3", "4", "--flops", "1e10", "--dry-run").out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "1e10-d3 107.5 K 11.8 K 0.11 23 1.02e10" in lines
    assert lines[-1] == "3 models, 3.02e10 FLOPs; nothing was trained"
    told = json.loads(
        cli("sweep", "tiny", "--depths", "2", "3", "4", "--flops", "1e10", "--dry-run", "--json").out
    )
    assert [model["steps"] for model in told["models"]] == [57, 23, 11]
    assert told["flops"] == sum(model["flops"] for model in told["models"])
    assert asked == []
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny",), "--depths"),
        (("tiny", "--depths", "two"), "--depths"),
        (("tiny", "--depths", "2", "--kind", "sweeping"), "sweeping"),
        (("tiny", "--depths", "2", "--flops", "1e10"), "scaling-laws needs 3 depths or more"),
        (("tiny", "--depths", "0"), "depths.0 = 0"),
        (("tiny", "--depths", "2", "--kind", "scaling-laws"), "needs FLOPs budgets"),
    ],
)
def test_what_makes_no_sweep_is_refused_in_one_line(
    arguments: tuple[str, ...], said: str, cli: Cli, asked: list[SweepParams]
) -> None:
    ended = cli("sweep", *arguments, rc=2)
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert asked == []
