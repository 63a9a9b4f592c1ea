"""Work that goes to a cluster's workers: what crosses, what comes back, and what if it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import cloudpickle
import httpx
import pytest
from prefect import unmapped
from prefect.exceptions import UnfinishedRun
from prefect.states import Completed, Failed

from artifacts.errors import DataError, ResourceError
from flows.build import Builder, Work
from flows.dag import stage_by_id
from flows.dispatch import mapped
from flows.dispatch.fan_out import FanOut
from flows.dispatch.mapped import EndsWithRun, Workers, build_download, build_shard, build_stage
from flows.launch import STOP, Interrupted, StageKilled
from flows.observe import OBSERVER, Observer
from flows.pipeline import pipeline
from flows.result import StageResult
from flows.shard_map import FETCH_STAGE
from flows.stage_task import shard_task, stage_task
from nanochat.stages.shards import ShardsConfig

FETCHED = StageResult(stage="fetch-shard", status="ran", digest="f" * 64, manifest="m" * 64, seconds=1.0)
RESULT = StageResult(stage="tokenize-shard", status="ran", digest="d" * 64, manifest="m" * 64, seconds=1.0)


class Remote:
    """A future of a cluster: ``end`` says how the task ended there."""

    def __init__(self) -> None:
        self.task_run_id = uuid4()
        self.state: Any = None
        self._error: Exception | None = None
        self._told: list[Callable[[Any], None]] = []

    def end(self, state: Any = None, error: Exception | None = None) -> None:
        self.state, self._error = state, error
        for told in self._told:
            told(self)

    def add_done_callback(self, told: Callable[[Any], None]) -> None:
        self._told.append(told)

    def result(self, raise_on_failure: bool = True) -> Any:
        if self._error:
            raise self._error
        return self.state.result(raise_on_failure=raise_on_failure)


class Runner:
    """Prefect's task runner of a cluster, as far as it is used."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, dict[str, Any]]] = []
        self.futures: list[Remote] = []
        self.left = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.left = True

    def submit(self, task: Any, parameters: dict[str, Any]) -> Remote:
        self.given.append((task, parameters))
        self.futures.append(Remote())
        return self.futures[-1]

    def map(self, task: Any, parameters: dict[str, Any]) -> list[Remote]:
        return [self.submit(task, {**parameters, "entry": entry}) for entry in parameters["entry"]]


class Watcher(Observer):
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def started(self, stage: str, message: str) -> None:
        self.said.append((stage, message))

    def finished(self, result: StageResult) -> None:
        self.said.append((result.stage, result.status))


@pytest.fixture
def watcher() -> Any:
    made = Watcher()
    token = OBSERVER.set(made)
    yield made
    OBSERVER.reset(token)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    made = Runner()
    monkeypatch.setattr(FanOut, "opened", lambda self: made)
    monkeypatch.setattr(mapped, "shard_entries", lambda builder, inputs: [{"path": "one"}, {"path": "two"}])
    monkeypatch.setattr(Workers, "_job", lambda self, work: f"job of {work.name}")
    return made


@pytest.fixture
def builder(make_builder: Callable[..., Builder]) -> Builder:
    return make_builder(forced={"tokenize-shard"}, first={})


@pytest.fixture
def whole(builder: Builder, first: Any) -> Work:
    return builder.work(first, {})


@pytest.fixture
def workers(builder: Builder, runner: Runner, watcher: Watcher) -> Any:
    made = Workers(FanOut("dask", "tcp://127.0.0.1:8786"), builder, str(uuid4()))
    yield made
    made.close()


def test_each_shard_is_a_task_of_plain_data(workers: Workers, whole: Work, runner: Runner) -> None:
    assert len(workers.shards(whole)) == 2
    (task, parameters), (_, other) = runner.given
    assert task.fn is build_shard
    assert (parameters["entry"], other["entry"]) == ({"path": "one"}, {"path": "two"})
    assert parameters["job"] == unmapped("job of demo")
    assert parameters["force"] == unmapped(True)


def test_a_ref_comes_back_and_the_run_is_told(
    workers: Workers, whole: Work, runner: Runner, watcher: Watcher
) -> None:
    one, two = workers.shards(whole)
    assert watcher.said == [("first", "2 shards go to tcp://127.0.0.1:8786")]
    for future in runner.futures:
        future.end(Completed(data=RESULT.model_dump()))
    assert StageResult(**one.result()) == StageResult(**two.result()) == RESULT
    assert watcher.said[1:] == [("tokenize-shard", "ran")] * 2


def test_what_a_task_fails_of_comes_back(
    workers: Workers, whole: Work, runner: Runner, watcher: Watcher
) -> None:
    one, _ = workers.shards(whole)
    runner.futures[0].end(Failed(data=DataError("shard one is damaged")))
    with pytest.raises(DataError, match=r"^shard one is damaged$"):
        one.result()
    assert len(watcher.said) == 1


def test_a_task_that_the_cluster_lost_fails_in_one_line(
    workers: Workers, whole: Work, runner: Runner
) -> None:
    one, _ = workers.shards(whole)
    runner.futures[0].end(error=RuntimeError("the worker died\nand this is how"))
    with pytest.raises(StageKilled, match=r"^tcp://127.0.0.1:8786 lost a task: the worker died \(the same"):
        one.result()


def test_an_answer_that_is_no_ref_is_an_error_not_a_wait(
    workers: Workers, whole: Work, runner: Runner
) -> None:
    one, _ = workers.shards(whole)
    runner.futures[0].end(Completed(data={"not": "a ref"}))
    with pytest.raises(ValueError, match="StageResult"):
        one.result(timeout=5)


def test_the_failure_is_told_where_prefect_says_only_that_a_stage_did_not_run(
    builder: Builder, whole: Work, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        with mapped.workers(builder) as workers:
            assert workers
            workers.shards(whole)
            runner.futures[1].end(Failed(data=DataError("shard two is damaged")))
            raise UnfinishedRun("Run is in PENDING state, its result is not available.")

    monkeypatch.setattr(mapped, "fan_out_of", lambda setting, store: FanOut("dask"))
    with pytest.raises(DataError, match=r"^shard two is damaged$"):
        run()


def test_a_stopped_run_waits_for_no_worker(workers: Workers, whole: Work, runner: Runner) -> None:
    one, _ = workers.shards(whole)
    STOP.pull()
    with pytest.raises(Interrupted):
        one.result(timeout=5)
    runner.futures[0].end(Completed(data=RESULT.model_dump()))  # too late, and no error


def test_a_run_that_ends_leaves_the_cluster_and_nobody_waiting(
    workers: Workers, whole: Work, runner: Runner
) -> None:
    one, _ = workers.shards(whole)
    workers.close()
    assert runner.left
    with pytest.raises(Interrupted):
        one.result(timeout=5)


@pytest.fixture
def model(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The inputs of an evaluation that has to be done."""
    monkeypatch.setattr(Builder, "work", lambda self, stage, inputs: SimpleNamespace(name="demo"))
    monkeypatch.setattr(Builder, "find", lambda self, work: None)
    ref = RESULT.model_copy(update={"stage": "base"}).model_dump()
    return {role: SimpleNamespace(result=lambda: ref) for role in ("model", "tokens", "shards")}


def test_an_evaluation_goes_there_by_its_job(workers: Workers, model: dict[str, Any], runner: Runner) -> None:
    assert workers.evaluation(stage_by_id("eval-base"), model)
    ((task, parameters),) = runner.given
    assert (task.fn, task.name, parameters) == (build_stage, "eval-base", {"job": "job of demo"})


def test_no_other_stage_does(workers: Workers, runner: Runner) -> None:
    assert workers.evaluation(stage_by_id("base"), {}) is None
    assert runner.given == []


def test_one_that_is_built_already_stays_here(
    workers: Workers, model: dict[str, Any], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builder, "find", lambda self, work: RESULT)
    assert workers.evaluation(stage_by_id("eval-base"), model) is None
    assert runner.given == []


def test_one_that_a_work_pool_does_stays_with_it(
    workers: Workers, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "pool_of", lambda builder, stage: "gpu")
    assert workers.evaluation(stage_by_id("eval-base"), model) is None


@pytest.fixture
def text(workers: Workers, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``text(end, source="hub")``: what goes to the workers for that text, where every task ends so."""
    monkeypatch.delenv("NANOCHAT_DATA_MIRROR", raising=False)
    monkeypatch.setattr(Builder, "find", lambda self, work: None)

    def ask(end: Any, **config: Any) -> Any:
        monkeypatch.setattr(
            Remote, "add_done_callback", lambda self, told: (setattr(self, "state", end), told(self))
        )
        configs = {"shards": ShardsConfig(**config)}
        monkeypatch.setattr(workers, "_builder", replace(workers._builder, configs=configs))
        return workers.downloads(stage_by_id("shards"))

    return ask


def test_each_file_of_the_hub_is_a_task_and_has_ended(text: Callable[..., Any], runner: Runner) -> None:
    files = text(Completed(data=FETCHED.model_dump()), source="hub", num_shards=1)
    assert list(files) == ["shard_00000.parquet", "shard_06542.parquet"]
    assert [StageResult(**future.result()) for future in files.values()] == [FETCHED] * 2
    (task, parameters), (_, other) = runner.given
    assert (task.fn, task.name, task.task_run_name) == (build_download, "fetch-shard", "{entry[path]}")
    assert [entry["path"] for entry in (parameters["entry"], other["entry"])] == list(files)
    assert parameters["job"] == unmapped("job of demo")
    assert parameters["force"] == unmapped(False)


def test_a_download_that_fails_ends_the_run_with_its_own_words(text: Callable[..., Any]) -> None:
    with pytest.raises(ResourceError, match=r"^download x: HTTP 404$"):
        text(Failed(data=ResourceError("download x: HTTP 404")), source="hub", num_shards=1)


def test_text_from_elsewhere_is_no_download(
    text: Callable[..., Any], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert text(None) is None
    monkeypatch.setenv("NANOCHAT_DATA_MIRROR", "somewhere")
    assert text(None, source="hub") is None
    assert runner.given == []


def test_text_that_is_there_is_not_downloaded(
    text: Callable[..., Any], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builder, "find", lambda self, work: RESULT)
    assert text(None, source="hub") is None
    assert runner.given == []


def test_only_the_stage_shards_downloads(workers: Workers, runner: Runner) -> None:
    assert workers.downloads(stage_by_id("base")) is None
    assert runner.given == []


def test_what_goes_to_a_worker_pickles(builder: Builder) -> None:
    """The tasks, and with them, as Prefect has it, the flow: by value, with every global that it names."""
    shard = shard_task(builder, build_shard)
    evaluation = stage_task(builder, stage_by_id("eval-base"), build_stage)
    download = shard_task(builder, build_download, FETCH_STAGE)
    for crossing in (shard, download, evaluation, pipeline):
        cloudpickle.dumps(crossing)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``clock.now`` in seconds; ``clock.over`` or an error is what the server says of the run."""
    made = SimpleNamespace(now=0.0, over=False, asked=0)

    def is_over(run_id: object) -> bool:
        made.asked += 1
        if isinstance(made.over, Exception):
            raise made.over
        return bool(made.over)

    monkeypatch.setattr(mapped.time, "monotonic", lambda: made.now)
    monkeypatch.setattr(mapped, "has_ended", is_over)
    return made


def test_a_stage_ends_with_the_run_that_it_is_for(clock: Any) -> None:
    watch = EndsWithRun(uuid4())
    for clock.now in range(20):
        watch.tick("eval-base", Path())
    assert clock.asked == 3  # every five seconds
    clock.over, clock.now = True, 25
    with pytest.raises(Interrupted, match="eval-base: the run that asked for it has ended"):
        watch.tick("eval-base", Path())


def test_a_server_that_is_away_ends_nothing(clock: Any) -> None:
    watch = EndsWithRun(uuid4())
    clock.over, clock.now = httpx.ConnectError("refused"), 10
    watch.tick("eval-base", Path())
    assert clock.asked == 1
