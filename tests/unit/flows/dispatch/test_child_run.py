"""What is made of a child run's states; the real ones are in tests/integration/test_dispatch.py."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled

from artifacts.backends.memory import MemoryBackend
from artifacts.errors import NanochatError, ResourceError, UsageError
from artifacts.store import Store
from flows.dispatch import child_run
from flows.dispatch.child_run import check_pools, run_child
from flows.dispatch.stage_job import StageJob
from flows.launch import STOP, Interrupted, StageKilled


def job(parent: str = "me") -> StageJob:
    return StageJob(
        stage="base", name="demo", run_name="demo", fingerprint="f" * 64, store="memory://x", config={},
        inputs={}, parent=parent,
    )  # fmt: skip


class Server:
    """Answers as Prefect does: ``states`` are what the next questions about the run find, or raise."""

    def __init__(self, *states: State | Exception, before: list[FlowRun] | None = None) -> None:
        self.states, self.before = list(states), before or []
        self.made: list[dict[str, Any]] = []
        self.set: list[str] = []
        self.id = uuid4()

    def run(self, state: State, parent: str = "me") -> FlowRun:
        parameters = {"job": job(parent).model_dump(mode="json")}
        return FlowRun(id=self.id, flow_id=self.id, name="child", state=state, parameters=parameters)

    def read_flow_runs(self, **_: Any) -> list[FlowRun]:
        return self.before

    def read_flow_run(self, _: Any) -> FlowRun:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return self.run(state)

    def set_flow_run_state(self, _: Any, state: State) -> None:
        self.set.append(str(state.type))
        self.states = [Cancelled()]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``ask(server)``: the child run on that server; what was said."""
    monkeypatch.setattr(child_run, "_ASK_AGAIN_S", 0.01)

    def run(server: Server, parent: str = "me") -> list[str]:
        use(server, monkeypatch)
        said: list[str] = []
        run_child("gpu", job(parent), said.append)
        return said

    return run


def use(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def client(**_: Any) -> Any:
        yield server

    def make(name: str, **how: Any) -> FlowRun:
        server.made.append({"name": name, **how})
        return server.run(Scheduled())

    monkeypatch.setattr(child_run, "get_client", client)
    monkeypatch.setattr(child_run, "run_deployment", make)


def test_it_is_made_once_and_waited_for(ask: Callable[..., list[str]]) -> None:
    server = Server(Scheduled(name="Late"), Running(), Running(), Completed())
    said = ask(server)
    (made,) = server.made
    assert made["name"] == "stage/gpu"
    assert made["idempotency_key"] == "f" * 64 + "-0"
    assert (
        said[1:]
        == ["child: late: no worker of this pool has taken it yet", "child: running", "child: completed"][:2]
    )


def test_one_that_builds_the_same_is_waited_for_and_not_doubled(ask: Callable[..., list[str]]) -> None:
    server = Server(Completed())
    server.before = [server.run(Failed()), server.run(Running())]
    ask(server)
    assert server.made == []


def test_after_ended_ones_the_key_is_a_new_one(ask: Callable[..., list[str]]) -> None:
    server = Server(Completed())
    server.before = [server.run(Failed()), server.run(Crashed())]
    ask(server)
    assert server.made[0]["idempotency_key"].endswith("-2")


@pytest.mark.parametrize(
    ("state", "kind", "text"),
    [
        (Failed(message="Flow run encountered an exception: DataError: stage base: loss is nan (lower lr)"),
         NanochatError, "stage base: loss is nan"),
        (Crashed(message="exit status -9"), StageKilled, "lost in its run child: exit status -9"),
        (Cancelled(), Interrupted, "was cancelled in its run child"),
    ],
)  # fmt: skip
def test_its_end_is_told_in_its_own_words(
    ask: Callable[..., list[str]], state: State, kind: type[NanochatError], text: str
) -> None:
    with pytest.raises(kind, match=text) as error:
        ask(Server(state))
    assert "exception" not in error.value.message


def test_one_that_others_cancelled_may_be_tried_again(ask: Callable[..., list[str]]) -> None:
    server = Server(Cancelled())
    server.before = [server.run(Running(), parent="somebody")]
    with pytest.raises(StageKilled):
        ask(server, parent="another")


def test_a_server_that_is_away_for_a_moment_is_waited_for(ask: Callable[..., list[str]]) -> None:
    ask(Server(httpx.ConnectError("refused"), Running(), httpx.ReadTimeout("slow"), Completed()))


def test_a_stopped_parent_cancels_its_child(ask: Callable[..., list[str]]) -> None:
    STOP.pull()
    server = Server(Running())
    with pytest.raises(Interrupted):
        ask(server)
    assert server.set == ["StateType.CANCELLING"]


def test_a_stopped_parent_leaves_the_child_of_another(
    ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_run, "_CANCEL_S", 0.05)
    STOP.pull()
    server = Server(Running())
    with pytest.raises(Interrupted):
        ask(server, parent="another")
    assert server.set == []


class Pools:
    """A server with one pool."""

    def __init__(self, kind: str = "process", workers: tuple[str, ...] = (), deployed: bool = True) -> None:
        self.kind, self.workers, self.deployed = kind, workers, deployed

    def read_work_pool(self, name: str) -> Any:
        return SimpleNamespace(type=self.kind)

    def read_deployment_by_name(self, name: str) -> None:
        if not self.deployed:
            raise ObjectNotFound(http_exc=Exception())

    def read_workers_for_work_pool(self, name: str) -> list[Any]:
        return [SimpleNamespace(name=name, status=WorkerStatus.ONLINE) for name in self.workers]


HERE = f"gpu-{socket.gethostname()}"


@pytest.mark.parametrize(
    ("pools", "error"),
    [
        (Pools(deployed=False), "no work pool gpu with a deployment stage/gpu"),
        (Pools(workers=(HERE, "gpu-elsewhere")), "worker gpu-elsewhere.*another host.*s3://"),
        (Pools(kind="kubernetes"), "a pool of type kubernetes.*another host"),
    ],
)
def test_what_cannot_work_is_refused(
    pools: Pools, error: str, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(pools, monkeypatch)
    with pytest.raises((UsageError, ResourceError), match=error):
        check_pools(["gpu"], Store.open())


def test_workers_of_this_host_and_a_shared_store_are_fine(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Pools(workers=(HERE,)), monkeypatch)
    check_pools(["gpu"], Store.open())
    use(Pools(kind="kubernetes"), monkeypatch)
    check_pools(["gpu"], Store(MemoryBackend("shared")))
