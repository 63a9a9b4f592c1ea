"""The compared part of a report: a table with changes against the parent, equal for equal artifacts."""

from __future__ import annotations

import json
from pathlib import Path

from nanochat.report.evidence import Evidence
from nanochat.report.results import build_results


def test_each_cell_is_compared_with_the_model_before(evidence: Evidence) -> None:
    rows = {(row.task, row.metric): row.cells for row in build_results(evidence).summary}
    hard, bpb = rows["arithmetic/hard", "accuracy"], rows["", "val_bpb"]
    assert hard["base"].delta is None
    assert (hard["rl"].value, hard["rl"].delta, hard["rl"].better) == (0.64, 0.14, True)
    assert (bpb["mid"].delta, bpb["mid"].better) == (0.05, False)


def test_the_demo_targets_of_the_made_up_run_are_met(evidence: Evidence) -> None:
    results = build_results(evidence)
    assert [target.met for target in results.targets] == [True] * 7
    assert results.rl_gain
    assert (results.rl_gain.gained, results.rl_gain.lost) == (70, 0)


def test_results_do_not_depend_on_how_it_ran(evidence: Evidence, own_run: dict[str, Path]) -> None:
    for folder in own_run.values():
        for file in (folder / "run").glob("*"):
            file.unlink()
    other = build_results(Evidence.read(own_run, samples=3))
    assert json.dumps(other.as_json()) == json.dumps(build_results(evidence).as_json())
