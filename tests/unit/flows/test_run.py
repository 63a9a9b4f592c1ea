"""One run: found without Prefect where everything is built, and where its report is put."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.errors import UsageError
from flows import run
from flows.build import Builder
from flows.dag import Stage
from flows.history import last_runs
from flows.observe import Observer
from flows.params import PipelineParams
from flows.result import StageResult
from flows.run import execute, export_report, finished_results, open_builder

Make = Callable[..., Builder]
PARAMS = PipelineParams(preset="tiny", name="demo")


class Watcher(Observer):
    """Remembers what finished."""

    def __init__(self) -> None:
        self.results: list[StageResult] = []

    def finished(self, result: StageResult) -> None:
        self.results.append(result)


@pytest.fixture
def _two_stages(first: Stage, second: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "until", lambda last: (first,) if last == "shards" else (first, second))


@pytest.mark.usefixtures("_two_stages")
def test_what_is_all_built_is_found(make_builder: Make, small_home: Path) -> None:
    results = finished_results(make_builder(first={}, second={}), PARAMS)
    assert results is not None
    assert [(result.stage, result.status) for result in results] == [
        ("first", "cached"),
        ("second", "cached"),
    ]
    assert [result.artifact for result in results] == ["tokenizer/demo@v1", "base/demo@v1"]


@pytest.mark.usefixtures("_two_stages")
def test_if_one_stage_is_not_built_there_are_no_results(make_builder: Make, small_home: Path) -> None:
    changed = make_builder(first={}, second={"text": "new"})
    assert finished_results(changed, PARAMS) is None
    assert finished_results(make_builder(first={}, second={}, forced={"second"}), PARAMS) is None
    (only,) = finished_results(changed, PipelineParams(until="shards")) or []
    assert only.stage == "first"


@pytest.mark.usefixtures("_two_stages")
def test_a_finished_run_needs_no_flow_and_is_observed_and_recorded(
    make_builder: Make, small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, watcher = make_builder(first={}, second={}), Watcher()
    monkeypatch.setattr(run, "open_builder", lambda params: builder)
    monkeypatch.setattr(run, "prefect_server_is_configured", lambda: False)
    monkeypatch.setattr(run, "_run_flow", lambda *_: pytest.fail("Prefect was started"))
    outcome = execute(PARAMS, watcher)
    assert [result.stage for result in watcher.results] == ["first", "second"]
    assert outcome.results == watcher.results
    assert outcome.report is None
    (recorded,) = last_runs(builder.settings.runs)
    assert [stage["artifact"] for stage in recorded["stages"]] == ["tokenizer/demo@v1", "base/demo@v1"]


@pytest.mark.usefixtures("_two_stages")
@pytest.mark.parametrize(("server", "changed"), [(True, {}), (False, {"text": "new"})])
def test_the_flow_runs_if_a_server_should_see_it_or_something_is_to_be_built(
    server: bool, changed: dict[str, str],
    make_builder: Make, small_home: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    builder, started = make_builder(first={}, second=changed), []
    monkeypatch.setattr(run, "open_builder", lambda params: builder)
    monkeypatch.setattr(run, "prefect_server_is_configured", lambda: server)
    monkeypatch.setattr(run, "_run_flow", lambda *arguments: started.append(arguments) or [])
    assert execute(PARAMS, Observer(), quiet=False).results == []
    assert [(params, quiet) for params, _, quiet in started] == [(PARAMS, False)]


@pytest.mark.usefixtures("_two_stages")
def test_another_node_takes_part_without_a_run_of_its_own(
    make_builder: Make, small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, watcher = make_builder(first={}, second={}), Watcher()
    followed: list[list[str]] = []

    def follow_run(by: Builder, stages: tuple[Stage, ...], observer: Observer) -> list[StageResult]:
        assert (by.store, observer) == (builder.store, watcher)
        followed.append([stage.id for stage in stages])
        return []

    monkeypatch.setattr(run, "open_builder", lambda params: replace(builder, ranks=4))
    monkeypatch.setattr(run, "_run_flow", lambda *_: pytest.fail("Prefect was started"))
    monkeypatch.setattr("flows.dispatch.follow.follow_run", follow_run)
    for name, value in {"NODES": "2", "NODE_RANK": "1", "RENDEZVOUS": "127.0.0.1:1"}.items():
        monkeypatch.setenv(f"NANOCHAT_{name}", value)
    assert execute(PARAMS, watcher) == run.Outcome([], None)
    assert followed == [["first", "second"]]
    monkeypatch.setattr(run, "open_builder", lambda params: replace(builder, ranks=3))
    with pytest.raises(UsageError, match="nproc = 3 processes cannot be shared by 2 nodes"):
        execute(PARAMS, watcher)
    monkeypatch.setattr(run, "open_builder", lambda params: replace(builder, ranks=4, forced={"second"}))
    with pytest.raises(UsageError, match="--force second with 2 nodes"):
        execute(PARAMS, watcher)


def test_the_report_is_at_a_path_that_stays(
    make_builder: Make, small_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("<p>first")
    monkeypatch.setattr(Builder, "checkout", lambda self, result: tmp_path)
    result = StageResult(stage="report", status="ran", digest="0", manifest="0", seconds=0.0)
    path = export_report(make_builder(), [result])
    assert path == small_home / "reports" / "demo" / "report.html"
    (tmp_path / "report.html").write_text("<p>second")
    assert export_report(make_builder(), [result]) == path
    assert path.read_text() == "<p>second"
    assert export_report(make_builder(), []) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "tyny"}, "unknown preset 'tyny'.*tiny"),
        ({"name": "A b"}, "name 'A b' is not allowed"),
        ({"set": {"rl.stpes": 3}}, "unknown key 'rl.stpes'.*rl.steps"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_is_built(
    wrong: dict[str, object], said: str, home: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        open_builder(PipelineParams(**{"preset": "tiny", **wrong}))


def test_a_builder_is_what_the_parameters_ask_for(home: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "elsewhere")
    asked = {
        "set": {"depth": 3, "nproc": 2, "micro_batch": 2},
        "force": ["rl"],
        "reuse": {"base": ""},
        "store": store,
    }
    builder = open_builder(PipelineParams(preset="tiny", **asked))
    assert (builder.name, builder.depth, builder.ranks) == ("tiny", 3, 2)
    assert (builder.forced, builder.reuse) == ({"rl"}, {"base": ""})
    assert builder.store.backend.url == store
