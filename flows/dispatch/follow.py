"""What the nodes after the first do: their part of the stages that torchrun spreads over all nodes.

Node 0 alone takes leases, makes runs and commits. The others look into the store for what is finished,
start their ranks where node 0 waits for them, and keep nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from artifacts import layout
from artifacts.atomic import make_directories
from artifacts.errors import NanochatError, ResourceError
from flows import launch
from flows.build import Builder, Work
from flows.dag import GROUPS, Stage
from flows.dispatch.cluster import Cluster
from flows.observe import Observer
from flows.result import StageResult

_ASK_AGAIN_S = 1.0
_LOOK_EVERY_S = 15.0
_AFTER_FAILURE = 0.1  # of a node's patience: whether node 0 tries again is soon known


def follow_run(builder: Builder, stages: Iterable[Stage], observer: Observer) -> list[StageResult]:
    """Take part in each torchrun stage of a run; the results of these and of all they are made from."""
    made: dict[str, StageResult] = {}
    for stage in _needed(tuple(stages)):
        inputs = {role: made[source] for role, source in stage.inputs.items()}
        made[stage.id] = follow(builder, builder.work(stage, inputs), observer)
        observer.finished(made[stage.id])
    return list(made.values())


def follow(builder: Builder, work: Work, observer: Observer) -> StageResult:
    """What node 0 has made of ``work``, with the ranks of this node where it is a torchrun stage.

    Of a forced stage, what answers once this node has done its part. Raises what ended its ranks if node
    0 does not try again, ResourceError if node 0 gives no sign of work for as long as it may.
    """
    node = _Node(builder, work, observer, Cluster.read())
    is_forced = work.stage.id in builder.forced
    finder = replace(builder, forced=frozenset())
    while is_forced or not (found := finder.find(work, publish=False)):
        launch.STOP.check()
        node.say("waiting for node 0")
        if work.stage.torchrun and node.cluster.answers():
            is_forced = not node.takes_part() and is_forced
        node.check_signs()
        time.sleep(_ASK_AGAIN_S)
    shutil.rmtree(node.attempt, ignore_errors=True)
    short = f"{work.stage.artifact(builder.name)}@sha256:{found.digest[:12]}"
    return found.model_copy(update={"artifact": short})


class _Node:
    """This machine, beside node 0, during one stage."""

    def __init__(self, builder: Builder, work: Work, observer: Observer, cluster: Cluster) -> None:
        self._builder, self._work, self._observer, self.cluster = builder, work, observer, cluster
        self._failure: NanochatError | None = None
        self._said = ""
        self._signs: object = None
        self._seen = self._looked = time.monotonic()

    @property
    def attempt(self) -> Path:
        """Not the store's, which may be a folder that node 0 sees as well."""
        nodes = self._builder.settings.home / "nodes"
        return nodes / str(self.cluster.node_rank) / self._work.fingerprint

    def say(self, message: str) -> None:
        """What this node does now; said once."""
        if message != self._said:
            self._said = message
            self._observer.started(self._work.stage.id, message)

    def takes_part(self) -> bool:
        """Run this node's ranks to their end; False if they failed, which ``check_signs`` may raise."""
        stage = self._work.stage.id
        self.say(f"takes part as node {self.cluster.node_rank}")
        try:
            make_directories(self.attempt)
            launch.run(
                self._builder.process(self._work, self.attempt),
                log=lambda text, urgent: self._observer.log(stage, text, urgent),
                tick=lambda: None,
            )
        except NanochatError as error:
            launch.STOP.check()
            self._failure, self._seen = error, time.monotonic()
            self.say(f"{error}")
            return False
        self._failure = None
        return True

    def check_signs(self) -> None:
        """Raises if node 0 has not moved for too long: neither its lease nor the parts of the stage."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            if (signs := self._read_signs()) != self._signs:
                self._signs, self._seen = signs, now
        silent_s = now - self._seen
        if self._failure and silent_s > _AFTER_FAILURE * self.cluster.patience_s:
            raise self._failure
        if silent_s > self.cluster.patience_s:
            raise ResourceError(
                f"stage {self._work.stage.id}: for {silent_s:.0f} s no sign of node 0 in the store",
                "start the same command on node 0, with the same store and code",
            )

    def _read_signs(self) -> object:
        backend = self._builder.store.backend
        stage = self._work.stage
        parts = [
            sum(1 for _ in backend.list(f"{layout.FINGERPRINTS}/{part}/"))
            for part in GROUPS.get(stage.id, ())
            if part != stage.id
        ]
        return backend.get(layout.lease(f"{stage.id}/{self._work.fingerprint}")), parts


def _needed(stages: tuple[Stage, ...]) -> list[Stage]:
    """The torchrun stages and all that they are made from, in order."""
    needed: set[str] = set()
    for stage in reversed(stages):
        if stage.torchrun or stage.id in needed:
            needed |= {stage.id, *stage.inputs.values()}
    return [stage for stage in stages if stage.id in needed]
