"""A rank's sign of life: cheap, and never the reason why it ends."""

from __future__ import annotations

import os
from pathlib import Path

from nanochat.heartbeat import Heartbeat
from nanochat.runtime import StageContext


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_of_quick_beats_one_a_second_is_written(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "heartbeat" / "3"
    heart = Heartbeat(path, now=clock)
    seen = []
    for step in range(25):
        heart.beat(step)
        seen.append(int(path.read_text().split()[1]))
        clock.now += 0.1
    assert sorted(set(seen)) == [0, 10, 20]
    assert int(path.read_text().split()[0]) == os.getpid()


def test_that_something_slow_begins_or_is_over_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "0"
    heart = Heartbeat(path, now=Clock())
    said = []
    for step, slow in ((4, False), (4, True), (5, False)):
        heart.beat(step, slow=slow)
        said.append(path.read_text().split()[1:])
    assert said == [["4"], ["4", "slow"], ["5"]]


def test_a_full_or_lost_disk_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "heartbeat").write_text("in the way")
    Heartbeat(tmp_path / "heartbeat" / "0").beat(1)


def test_a_stage_beats_through_its_context(tmp_path: Path) -> None:
    StageContext({}, tmp_path / "output", tmp_path / "attempt", tmp_path / "scratch", rank=2).beat(7)
    assert (tmp_path / "attempt/heartbeat/2").read_text().split()[1:] == ["7"]
