"""In which order a sweep trains, and what a model that fails does to the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import NanochatError
from flows.launch import Interrupted
from flows.observe import OBSERVER, Observer
from flows.sweep import flow as module
from flows.sweep import run as sweep_run
from flows.sweep.params import SweepParams

PARAMS = {"preset": "tiny", "depths": [2, 3, 4], "set": {"tokens_per_parameter": 0.5}, "name": "series"}


class Future:
    """A task that was submitted: what came of it, and whether anybody has waited for it."""

    def __init__(self, events: list[str], name: str, error: Exception | None) -> None:
        self._events, self._name, self._error = events, name, error

    def result(self) -> dict[str, Any]:
        self._events.append(f"-{self._name}")
        if self._error:
            raise self._error
        return {"stage": "base", "status": "ran", "artifact": f"{self._name}@v1", "digest": "0" * 64,
                "manifest": "0" * 64, "seconds": 1.0}  # fmt: skip


class World:
    """The flow with tasks that only remember: ``base/n-d2`` was submitted, ``-base/n-d2`` waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.watched: list[Observer] = []
        self.lanes: list[int] = []
        self.inputs: dict[str, list[str]] = {}
        monkeypatch.setattr(module, "stage_task", self.task)
        monkeypatch.setattr(module, "build_task", self.last)
        monkeypatch.setattr(module, "shard_tasks", lambda *_: None)
        monkeypatch.setattr(module, "check_dispatch", lambda *_: None)
        monkeypatch.setattr(module, "_publish", lambda *_: None)
        monkeypatch.setattr(module, "get_run_logger", lambda: SimpleNamespace(error=lambda *_: None))
        monkeypatch.setattr(module, "ThreadPoolTaskRunner", {Any: self.runner})
        monkeypatch.setattr(sweep_run, "prefect_server_is_configured", lambda: False)
        monkeypatch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "0" * 64}, False))

    def future(self, name: str) -> Future:
        self.events.append(name)
        return Future(self.events, name, self.fails.get(name))

    def task(self, builder: Any, stage: Any) -> Any:
        name = stage.artifact(builder.name)
        return SimpleNamespace(name=name, submit=lambda inputs, parts: self.future(name))

    def last(self, builder: Any, work: Any) -> Any:
        self.inputs[work.name] = list(work.inputs)
        return SimpleNamespace(submit=lambda: self.future(f"report/{work.name}"))

    def runner(self, max_workers: int) -> Any:
        self.lanes.append(max_workers)
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, task: Any, parameters: dict[str, Any]) -> Future:
        assert all(isinstance(future, Future) for future in parameters["inputs"].values())
        self.watched.append(OBSERVER.get())
        return self.future(task.name)

    def run(self, **values: Any) -> list[dict[str, Any]]:
        return module.sweep.fn(SweepParams(**{**PARAMS, **values}))


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


MODELS = [f"base/series-d{depth}" for depth in (2, 3, 4)]
EVALUATIONS = [f"eval/series-d{depth}-base" for depth in (2, 3, 4)]


def test_data_comes_first_then_all_models_then_what_they_say(world: World) -> None:
    made = world.run()
    assert world.events[:6] == [
        "shards/series", "-shards/series", "tokenizer/series", "-tokenizer/series",
        "tokens/series", "-tokens/series",
    ]  # fmt: skip
    assert world.events[6:12] == [*MODELS, *(f"-{model}" for model in MODELS)]
    assert world.inputs == {"series-sweep": ["tokens", "d2", "d3", "d4"]}
    assert [item["artifact"] for item in made] == [
        f"{name}@v1"
        for name in ("shards/series", "tokenizer/series", "tokens/series", *MODELS, "report/series-sweep")
    ]
    assert world.lanes == [2]


def test_models_are_evaluated_once_they_are_all_there(world: World) -> None:
    made = world.run(evaluate=True)
    submitted = [event for event in world.events if not event.startswith("-")]
    assert submitted[3:] == [*MODELS, *EVALUATIONS, "report/series-sweep"]
    assert world.inputs["series-sweep"] == ["tokens", "d2", "d3", "d4", "eval-d2", "eval-d3", "eval-d4"]
    assert len(made) == 10


def test_one_that_fails_does_not_end_the_others(world: World) -> None:
    world.fails = {MODELS[0]: NanochatError("stage base: a planned fault at step 5", "mend it")}
    with pytest.raises(NanochatError) as caught:
        world.run(evaluate=True)
    assert str(caught.value) == (
        "1 of 6 failed: d2: stage base: a planned fault at step 5 (mend it)"
        " (the others are kept: the same sweep goes on from there)"
    )
    submitted = [event for event in world.events if not event.startswith("-")]
    assert submitted[3:] == [*MODELS, *EVALUATIONS[1:]], "what the model is needed for is left out, no more"
    assert {f"-{name}" for name in submitted} <= set(world.events), "everything was waited for"


def test_every_failure_is_named(world: World) -> None:
    world.fails = {MODELS[0]: NanochatError("this"), EVALUATIONS[2]: ValueError("and that")}
    with pytest.raises(NanochatError, match="2 of 6 failed: d2: this; eval-d4: and that"):
        world.run(evaluate=True)


def test_a_stopped_run_goes_no_further(world: World) -> None:
    world.fails = {MODELS[1]: Interrupted("the run was stopped")}
    with pytest.raises(Interrupted):
        world.run(evaluate=True)
    assert not set(EVALUATIONS) & set(world.events)


def test_whoever_watches_hears_which_model_it_is(world: World, tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear(Observer):
        def started(self, stage: str, message: str) -> None:
            heard.append(f"{stage} {message}")

        def tick(self, stage: str, records: Path) -> None:
            heard.append(stage)

    token = OBSERVER.set(Ear())
    try:
        world.run()
    finally:
        OBSERVER.reset(token)
    assert isinstance(OBSERVER.get(), Observer)
    for watched in world.watched:
        watched.started("base", "running")
        watched.tick("base", tmp_path)
    assert heard == [text for d in (2, 3, 4) for text in (f"base d{d} running", f"base d{d}")]


def test_a_picture_stands_inside_the_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep.png").write_bytes(b"\x89PNG")
    assert module.picture(tmp_path / "sweep.png") == "![sweep](data:image/png;base64,iVBORw==)"
