"""The nodes after the first: they wait for node 0, take part where it waits for them, and write nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import DataError, ResourceError
from artifacts.lease import Lease
from flows import launch
from flows.build import Builder, Work
from flows.dag import STAGES, Stage
from flows.dispatch import follow
from flows.dispatch.follow import follow_run
from flows.launch import STOP, Interrupted, StageKilled
from flows.observe import Observer
from tests.unit.flows.conftest import FakeStage

Make = Callable[..., Builder]
PLAIN = FakeStage("second", "fake", "base", {"tokenizer": "first"})
TRAINED = replace(PLAIN, torchrun=True)
_RUN = launch.run


class Time:
    """A clock that a sleep moves, and on which things happen."""

    def __init__(self) -> None:
        self.now, self.then = 0.0, dict[float, Callable[[], object]]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self.then if moment <= self.now]:
            self.then.pop(moment)()
        assert self.now < 5000, "it waits for ever"


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of a process that is node 1 of two; node 0 does not answer."""
    made = Time()
    monkeypatch.setattr(follow, "time", made)
    monkeypatch.setenv("NANOCHAT_NODES", "2")
    monkeypatch.setenv("NANOCHAT_NODE_RANK", "1")
    monkeypatch.setenv("NANOCHAT_RENDEZVOUS", "127.0.0.1:1")
    return made


@pytest.fixture
def node_0(monkeypatch: pytest.MonkeyPatch, time: Time) -> Iterator[None]:
    """Node 0 answers from now on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("NANOCHAT_RENDEZVOUS", f"127.0.0.1:{server.getsockname()[1]}")
        yield


def built(builder: Builder, stage: Stage, **inputs: Any) -> Any:
    return builder.build(builder.work(stage, inputs), Observer())


def node_0_finishes(builder: Builder, asked: Work, patch: pytest.MonkeyPatch) -> None:
    """Its agent is gone, and the artifact is there."""
    patch.setattr(follow.Cluster, "answers", lambda _: False)
    patch.setattr(launch, "run", _RUN)
    built(builder, PLAIN, **asked.inputs)


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def work(make_builder: Make, first: Stage) -> tuple[Builder, Work]:
    """A trained stage whose input is there, and who would build it."""
    builder = make_builder(first={}, second={})
    return builder, builder.work(TRAINED, {"tokenizer": built(builder, first)})


def test_what_node_0_has_made_is_found_as_soon_as_it_is_there(
    make_builder: Make, first: Stage, time: Time, recorder: Any, home: Path
) -> None:
    builder = make_builder(first={})
    time.then[500.0] = lambda: built(make_builder(first={}), first)
    found = follow.follow(builder, builder.work(first, {}), recorder)
    assert time.now < 510
    assert recorder.events == [("started", "first", "waiting for node 0")]
    before = files(home)
    other = replace(builder, name="other")
    again = follow.follow(other, other.work(first, {}), recorder)
    assert (again.digest, again.artifact) == (found.digest, f"tokenizer/other@sha256:{found.digest[:12]}")
    assert files(home) == before, "only node 0 gives names"
    assert len(recorder.events) == 1, "there was nothing to wait for"


def test_a_node_takes_part_with_a_folder_of_its_own_and_leaves_nothing(
    work: tuple[Builder, Work], node_0: None, monkeypatch: pytest.MonkeyPatch, recorder: Any, home: Path
) -> None:
    builder, asked = work
    jobs: list[tuple[launch.Job, dict[str, Any]]] = []

    def run(job: launch.Job, **_: Any) -> None:
        jobs.append((job, json.loads((job.attempt / "job.json").read_text())))
        node_0_finishes(builder, asked, monkeypatch)

    monkeypatch.setattr(launch, "run", run)
    found = follow.follow(builder, asked, recorder)
    ((job, content),) = jobs
    assert found.metrics["bytes"] == 7
    assert job.attempt == home / "nodes" / "1" / asked.fingerprint
    assert (job.torchrun, job.cluster.node_rank) == (True, 1)
    assert (content["stage"], list(content["inputs"])) == ("second", ["tokenizer"])
    assert Path(content["inputs"]["tokenizer"], "payload.txt").exists()
    assert content["output"] == str(job.attempt / "output")
    assert not job.attempt.exists()
    assert [event[2] for event in recorder.events] == ["waiting for node 0", "takes part as node 1"]


def test_a_part_that_failed_is_done_again_with_node_0(
    work: tuple[Builder, Work], node_0: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, asked = work
    tries: list[str] = []

    def run(job: launch.Job, **_: Any) -> None:
        tries.append(job.stage)
        if len(tries) < 3:
            raise StageKilled("stage second lost the ranks of another node")
        node_0_finishes(builder, asked, monkeypatch)

    monkeypatch.setattr(launch, "run", run)
    assert follow.follow(builder, asked, Observer()).stage == "second"
    assert len(tries) == 3


def test_if_node_0_does_not_try_again_the_failure_is_raised(
    work: tuple[Builder, Work], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True])
    monkeypatch.setattr(follow.Cluster, "answers", lambda _: next(answers, False))
    monkeypatch.setattr(launch, "run", _bad_data)
    with pytest.raises(DataError, match="row group 2 is corrupt"):
        follow.follow(*work, Observer())
    assert 60 < time.now < 100


def test_a_node_0_that_gives_no_sign_is_not_waited_for_longer_than_said(
    work: tuple[Builder, Work], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_NODE_PATIENCE_S", "300")
    with pytest.raises(ResourceError, match=r"second: for 30\d s no sign of node 0 in the store \(start"):
        follow.follow(*work, Observer())


def test_a_lease_that_moves_is_a_sign(work: tuple[Builder, Work], time: Time) -> None:
    builder, asked = work
    lease = Lease(builder.store, f"{asked.stage.id}/{asked.fingerprint}")
    assert lease.try_acquire()
    for moment in range(100, 2000, 400):
        time.then[float(moment)] = lease.beat
    with pytest.raises(ResourceError, match="no sign of node 0"):
        follow.follow(builder, asked, Observer())
    assert 1700 + 600 < time.now < 1700 + 650


def test_so_is_a_part_of_a_mapped_stage(make_builder: Make, time: Time, home: Path) -> None:
    stage = FakeStage("tokenize", "fake", "tokens", mapped=True)
    builder = make_builder(tokenize={})
    part = make_builder(**{"tokenize-shard": {}})
    time.then[500.0] = lambda: built(part, FakeStage("tokenize-shard", "fake", "tokens"))
    with pytest.raises(ResourceError, match="no sign of node 0"):
        follow.follow(builder, builder.work(stage, {}), Observer())
    assert 500 + 600 < time.now < 500 + 650


def test_a_stop_ends_the_waiting(work: tuple[Builder, Work], time: Time) -> None:
    time.then[5.0] = STOP.pull
    with pytest.raises(Interrupted):
        follow.follow(*work, Observer())


def test_a_forced_stage_is_over_when_this_nodes_part_is(
    make_builder: Make, first: Stage, node_0: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = make_builder(first={}, second={}, forced={"second"})
    asked = builder.work(TRAINED, {"tokenizer": built(builder, first)})
    before = built(make_builder(second={}), PLAIN, **asked.inputs)
    parts: list[str] = []
    monkeypatch.setattr(launch, "run", lambda job, **_: parts.append(job.stage))
    assert follow.follow(builder, asked, Observer()).digest == before.digest
    assert parts == ["second"]


def test_of_a_run_only_what_is_trained_and_its_inputs_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    followed: list[str] = []

    def done(builder: Any, work: Any, observer: Observer) -> Any:
        followed.append(work.stage.id)
        assert set(work.inputs) == set(work.stage.inputs)
        made = {"stage": work.stage.id, "status": "cached", "digest": "0" * 64, "manifest": "0" * 64}
        return follow.StageResult(**made, seconds=0.0)

    monkeypatch.setattr(follow, "follow", done)
    builder: Any = SimpleNamespace(work=lambda stage, inputs: SimpleNamespace(stage=stage, inputs=inputs))
    results = follow_run(builder, STAGES, Observer())
    assert followed == ["shards", "tokenizer", "tokenize", "base", "mid", "sft", "rl"]
    assert [result.stage for result in results] == followed
    assert follow_run(builder, STAGES[:3], Observer()) == []


def _bad_data(*_: object, **__: object) -> None:
    raise DataError("stage second: row group 2 is corrupt")
