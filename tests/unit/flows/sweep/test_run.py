"""What a sweep builds, under which names, and that a finished one is found without Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import UsageError
from flows.build import Builder, Work
from flows.dispatch.pools import Offer
from flows.observe import Observer
from flows.result import StageResult
from flows.sweep import run as sweep_run
from flows.sweep.params import SweepParams
from flows.sweep.run import (
    BASE,
    EVALUATION,
    Plan,
    execute_sweep,
    export_page,
    finished_sweep,
    open_sweep,
    role_of,
    sources_of,
)

PARAMS = {"preset": "tiny", "depths": [3, 2], "set": {"tokens_per_parameter": 0.5}, "name": "series"}
LAWS = {
    "preset": "tiny", "depths": [2, 3, 4], "kind": "scaling-laws", "flops_budgets": [1e10], "name": "laws",
}  # fmt: skip


def opened(**values: Any) -> Plan:
    return open_sweep(SweepParams(**{**PARAMS, **values}))


def result(name: str, digest: str = "0" * 64) -> StageResult:
    return StageResult(stage="base", status="ran", artifact=name, digest=digest, manifest="0" * 64, seconds=1)


@pytest.fixture(autouse=True)
def _no_server_and_no_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "prefect_server_is_configured", lambda: False)
    monkeypatch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "0" * 64}, False))


def test_every_point_has_a_builder_of_its_own() -> None:
    plan = opened()
    builders = [plan.builder_of(point) for point in plan.points]
    assert [(b.name, b.depth, b.configs["base"].model.depth) for b in builders] == [
        ("series-d2", 2, 2), ("series-d3", 3, 3),
    ]  # fmt: skip
    assert (plan.builder.name, plan.builder.ranks, plan.builder.overlap) == ("series", 1, True)
    assert builders[0].store is plan.builder.store


def test_points_share_text_and_tokenizer_and_are_evaluated_if_asked() -> None:
    plan = opened(evaluate=True)
    (point, _) = plan.points
    assert plan.stages == (BASE, EVALUATION)
    assert opened().stages == (BASE,)
    assert sources_of(BASE, point) == {"tokens": "tokenize", "tokenizer": "tokenizer"}
    assert sources_of(EVALUATION, point) == {"model": "d2", "tokens": "tokenize", "shards": "shards"}
    assert (role_of(BASE, point), role_of(EVALUATION, point)) == ("d2", "eval-d2")


def test_one_artifact_of_all_points() -> None:
    plan = opened(**LAWS)
    made = {point.role: result(f"base/laws-{point.role}@v1") for point in plan.points}
    work = plan.work(result("tokens/laws@v1"), made)
    assert (work.stage.id, work.stage.kind, work.name) == ("sweep", "report", "laws-sweep")
    assert list(work.inputs) == ["tokens", "1e10-d2", "1e10-d3", "1e10-d4"]
    assert work.config.budgets == {"1e10-d2": 1e10, "1e10-d3": 1e10, "1e10-d4": 1e10}
    other = plan.work(result("tokens/laws@v1"), {**made, "1e10-d4": result("base/x@v1", "1" * 64)})
    assert other.fingerprint != work.fingerprint


def test_points_go_side_by_side_only_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {"set": {**PARAMS["set"], "overlap": False}}
    assert opened().side_by_side == 2
    assert opened(**alone, at_once=9).side_by_side == 1
    monkeypatch.setenv("NANOCHAT_POOLS", f'{{"gpu": {Offer(gpus=1, cpus=2, memory_gb=8).model_dump_json()}}}')
    assert opened(**alone, at_once=9).side_by_side == 1, "pools are of use to a server only"
    monkeypatch.setattr(sweep_run, "prefect_server_is_configured", lambda: True)
    assert opened(**alone, at_once=9).side_by_side == 9


def test_a_wrong_sweep_opens_no_store(home: Path) -> None:
    with pytest.raises(UsageError, match="10 are needed"):
        opened(set={"tokens_per_parameter": 1e-6})
    assert not home.exists()


class Shelf:
    """Stands in for the store: has whatever it was not told to lack, and remembers what was looked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lacks, self.asked = "nothing", []
        monkeypatch.setattr(Builder, "find", lambda builder, work: self.find(work))

    def find(self, work: Work) -> StageResult | None:
        name = f"{work.stage.kind}/{work.name}"
        self.asked.append(name)
        return None if name == self.lacks else result(f"{name}@v1")


def test_a_finished_sweep_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(monkeypatch)
    found = finished_sweep(opened(evaluate=True))
    assert found is not None
    assert [item.artifact for item in found] == [
        "shards/series@v1", "tokenizer/series@v1", "tokens/series@v1", "base/series-d2@v1",
        "base/series-d3@v1", "eval/series-d2-base@v1", "eval/series-d3-base@v1", "report/series-sweep@v1",
    ]  # fmt: skip
    assert shelf.asked == [item.artifact.removesuffix("@v1") for item in found]


@pytest.mark.parametrize("lacks", ["tokenizer/series", "base/series-d3", "report/series-sweep"])
def test_a_sweep_that_lacks_something_is_not_finished(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Shelf(monkeypatch).lacks = lacks
    assert finished_sweep(opened()) is None


def test_a_finished_sweep_starts_no_prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Shelf(monkeypatch)
    (tmp_path / "sweep.html").write_text("<p>page")
    monkeypatch.setattr(Builder, "checkout", lambda self, result: tmp_path)
    monkeypatch.setattr(sweep_run, "prefect_session", lambda *_, **__: pytest.fail("Prefect was started"))
    outcome = execute_sweep(SweepParams(**PARAMS), Observer())
    assert outcome.results[-1].artifact == "report/series-sweep@v1"
    assert (outcome.folder, outcome.page.read_text()) == (tmp_path, "<p>page")


def test_the_page_is_at_a_path_that_stays(home: Path, tmp_path: Path) -> None:
    builder = opened().builder
    for text in ("<p>first", "<p>second"):
        (tmp_path / "sweep.html").write_text(text)
        path = export_page(builder, tmp_path)
        assert path == home / "reports/series-sweep/sweep.html"
        assert path.read_text() == text
