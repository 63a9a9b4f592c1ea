"""Which ranks hang: those whose file stands still, on the watcher's own clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.processes.heartbeats import Beat, Heartbeats, description


class Watch:
    """A folder of heartbeats, and a watcher with a limit of 100 s on a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now, self.folder, self._writes = 1000.0, folder, 0
        self.heartbeats = Heartbeats(folder, 100.0, now=lambda: self.now)
        folder.mkdir()

    def beat(self, rank: int, step: int, word: str = "") -> None:
        self._writes += 1
        (self.folder / str(rank)).write_text(f"{4_000_000 + self._writes} {step} {word}\n")

    def silent_after(self, seconds: float) -> list[tuple[int, int]]:
        self.now += seconds
        return [(beat.rank, beat.step) for beat in self.heartbeats.silent()]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "heartbeat")


def test_a_rank_that_stands_still_is_silent_until_it_beats_again(watch: Watch) -> None:
    watch.beat(0, 5)
    watch.beat(1, 5)
    assert watch.silent_after(0) == []
    watch.beat(0, 6)
    assert watch.silent_after(40) == []
    assert watch.silent_after(70) == [(1, 5)]
    watch.beat(1, 6)
    assert watch.silent_after(1) == []


def test_the_one_that_is_furthest_behind_comes_first(watch: Watch) -> None:
    for rank, step in ((0, 42), (1, 42), (2, 41)):
        watch.beat(rank, step)
    watch.silent_after(0)
    assert watch.silent_after(101) == [(2, 41), (0, 42), (1, 42)]
    assert description(watch.heartbeats.silent()) == "rank 2 at step 41; ranks 0, 1 at step 42"


def test_what_takes_longer_than_a_step_gets_more_patience_but_not_all(watch: Watch) -> None:
    watch.beat(0, 5, "slow")
    watch.silent_after(0)
    assert watch.silent_after(999) == []
    assert watch.silent_after(2) == [(0, 5)]


def test_what_took_long_before_may_take_twice_as_long(watch: Watch) -> None:
    watch.beat(0, 5, "slow")
    watch.silent_after(0)
    watch.silent_after(400)
    watch.beat(0, 6)
    assert watch.silent_after(0) == []
    assert watch.silent_after(799) == []
    assert watch.silent_after(2) == [(0, 6)]


def test_a_stage_that_never_beats_is_not_watched(watch: Watch, tmp_path: Path) -> None:
    assert watch.silent_after(10_000) == []
    assert Heartbeats(tmp_path / "absent", 1.0).silent() == []


def test_what_an_earlier_attempt_left_is_forgotten(watch: Watch) -> None:
    watch.beat(0, 5)
    again = Heartbeats(watch.folder, 100.0, now=lambda: watch.now)
    watch.now += 200
    assert again.silent() == []
    assert not watch.folder.exists()


def test_a_file_that_is_being_written_counts_as_before(watch: Watch) -> None:
    watch.beat(0, 5)
    watch.silent_after(0)
    (watch.folder / "0").write_text("")
    (watch.folder / "1").write_text("123 ")
    assert watch.silent_after(101) == [(0, 5)]


def test_one_rank_is_not_several() -> None:
    assert description([Beat(3, 1, 9, False, (0, ""), 0.0)]) == "rank 3 at step 9"
