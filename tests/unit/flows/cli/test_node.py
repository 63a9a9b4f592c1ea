"""A pod of an indexed job, after the first: it takes part in the stage of the job's flow run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import UsageError
from flows.cli import node
from flows.launch import STOP

RUN_ID = "0f4bd6a1-7f0c-4b06-9a55-6a4ffb6ec1a5"


@pytest.fixture(autouse=True)
def _pod(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", RUN_ID)
    monkeypatch.setenv("NANOCHAT_NODES", "2")
    monkeypatch.setenv("NANOCHAT_RENDEZVOUS", "127.0.0.1:1")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_follows_the_runs_stage_and_stops_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[Any] = []

    def follow(builder: str, work: str, observer: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        followed.append((builder, work, STOP.pulls))

    jobs = {RUN_ID: SimpleNamespace(opened=lambda: ("builder", "work"))}
    monkeypatch.setattr(node, "_job", jobs.__getitem__)
    monkeypatch.setattr(node, "follow", follow)
    assert node.node() == 0
    assert followed == [("builder", "work", 1)]


@pytest.mark.parametrize("absent", ["PREFECT__FLOW_RUN_ID", "JOB_COMPLETION_INDEX"])
def test_by_hand_or_in_the_first_pod_it_is_refused(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(absent)
    with pytest.raises(
        UsageError, match=r"this is no pod of a job of several, after the first .*nanochat run"
    ):
        node.node()
