"""What a run says while it runs: lines, one moving line on a terminal, or JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from flows.cli import watch
from flows.cli.watch import JsonObserver, TerminalObserver
from flows.result import StageResult
from nanochat.records import RecordWriter

RESULT = StageResult(
    stage="base", status="ran", artifact="base/demo@v1", digest="ab" * 32, manifest="1" * 64,
    seconds=12.34, metrics={"val_bpb": 1.91234}, key_metric="val_bpb",
)  # fmt: skip
PART = RESULT.model_copy(update={"stage": "tokenize-shard", "artifact": "", "metrics": {}})


class Clock:
    """Stands for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


@pytest.fixture
def records(tmp_path: Path) -> Path:
    writer = RecordWriter(tmp_path / "records.jsonl", "base")
    writer.write("stage/progress", 0.25, step=5)
    writer.write("train/loss", 3.5, step=5)
    return writer.path


def test_json_has_one_line_for_each_finished_stage_and_none_for_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    observer = JsonObserver()
    observer.started("base", "running")
    observer.log("base", "step 1", urgent=True)
    observer.finished(PART)
    observer.finished(RESULT)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [RESULT.line()]
    assert err == ""


def test_in_a_pipe_there_is_a_line_at_the_start_then_and_again_and_at_the_end(
    clock: Clock, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = TerminalObserver()
    observer.started("base", "running")
    for _ in range(65):
        clock.now += 1
        observer.tick("base", records)
    observer.finished(RESULT)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "base           running",
        "base              30 s  25 %  step 5 loss 3.500",
        "base              60 s  25 %  step 5 loss 3.500",
        "base           ran in 12.3 s  base/demo@v1  val_bpb 1.912",
    ]


def test_before_the_first_record_it_says_that_it_runs(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = TerminalObserver()
    observer.started("shards", "running")
    clock.now += 31
    observer.tick("shards", tmp_path / "absent")
    assert capsys.readouterr().err.splitlines()[1] == "shards            31 s  running"


def test_stages_side_by_side_have_a_clock_each(
    clock: Clock, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = TerminalObserver()
    for stage in ("mid", "eval-base"):
        observer.started(stage, "running")
        clock.now += 20
    observer.tick("eval-base", records)
    observer.tick("mid", records)
    assert capsys.readouterr().err.splitlines()[2:] == ["mid               40 s  25 %  step 5 loss 3.500"]


def test_on_a_terminal_one_line_moves_and_what_is_finished_stays(
    clock: Clock, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    observer = TerminalObserver()
    observer.started("base", "running")
    for _ in range(4):
        clock.now += 0.5
        observer.tick("base", records)
    observer.finished(RESULT)
    assert terminal.getvalue().split("\r\x1b[2K")[1:] == [
        "base           running",
        "base               1 s  25 %  step 5 loss 3.500",
        "base               2 s  25 %  step 5 loss 3.500",
        "base           ran in 12.3 s  base/demo@v1  val_bpb 1.912\n",
    ]


def test_the_moving_line_is_cut_so_that_it_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    TerminalObserver().started("base", "x" * 500)
    assert len(terminal.getvalue().removeprefix("\r\x1b[2K")) == 110


def test_a_part_without_name_or_metric_leaves_no_trailing_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalObserver().finished(PART)
    assert capsys.readouterr().err == "tokenize-shard ran in 12.3 s\n"
