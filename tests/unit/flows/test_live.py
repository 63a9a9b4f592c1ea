"""What runs now is seen from the folders of attempts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flows import live
from flows.live import SILENT_S, curves_of, working
from nanochat.records import RecordWriter


def attempt(folder: Path, name: str, steps: int) -> Path:
    made = folder / name
    made.mkdir()
    (made / "job.json").write_text(json.dumps({"stage": name}), encoding="utf-8")
    writer = RecordWriter(made / "records.jsonl", name)
    for step in range(steps):
        writer.write("train/loss", 5.0 - step, step=step)
        writer.write("stage/progress", step / 10)
    return made


def test_a_stage_that_writes_is_running(tmp_path: Path) -> None:
    attempt(tmp_path, "base", 3)
    with (tmp_path / "base" / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"name": "train/lo')
    (found,) = working(tmp_path)
    assert (found.stage, found.share) == ("base", 0.2)
    assert found.progress == "20 %  step 2 loss 3.000"
    assert [list(curve.points) for curve in found.curves] == [[(0, 5.0), (1, 4.0), (2, 3.0)]]


def test_only_what_is_new_is_read_until_the_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    records_in = live._records

    def noted(lines: bytes) -> list[dict[str, Any]]:
        found = records_in(lines)
        read.append(len(found))
        return found

    monkeypatch.setattr(live, "_records", noted)

    def steps() -> list[float]:
        return [step for step, _ in working(tmp_path)[0].curves[0].points]

    records = attempt(tmp_path, "base", 3) / "records.jsonl"
    with records.open("a", encoding="utf-8") as file:
        file.write('{"name": "train/lo')
    assert steps() == [0, 1, 2]
    with records.open("a", encoding="utf-8") as file:
        file.write('ss", "step": 3, "value": 1.5}\n')
    assert steps() == steps() == [0, 1, 2, 3]
    assert read == [6, 1, 0]
    kept = records.read_text(encoding="utf-8").splitlines(keepends=True)[:4]
    (tmp_path / "new").write_text("".join(kept), encoding="utf-8")
    os.replace(tmp_path / "new", records)
    assert steps() == [0, 1]
    (tmp_path / "base" / "summary.json").touch()
    assert working(tmp_path) == []
    assert records not in live._READ


def test_one_that_is_silent_ended_or_broken_is_not(tmp_path: Path) -> None:
    (attempt(tmp_path, "ended", 1) / "summary.json").touch()
    (attempt(tmp_path, "broken", 1) / "job.json").write_text("[]", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    made = attempt(tmp_path, "silent", 1)
    then = (made / "records.jsonl").stat().st_mtime
    assert [stage.stage for stage in working(tmp_path, now=then + SILENT_S / 2)] == ["silent"]
    assert working(tmp_path, now=then + SILENT_S + 5) == []
    os.utime(made / "job.json", (0, 0))
    (made / "heartbeat").touch()
    assert [stage.stage for stage in working(tmp_path)] == ["silent"]
    assert working(tmp_path / "nothing") == []


def test_only_numbers_at_a_step_are_points() -> None:
    records = [
        {"name": "train/loss", "step": 1, "value": 2.0}, {"name": "train/loss", "step": None, "value": 2.0},
        {"name": "train/loss", "step": 2, "value": float("nan")},
        {"name": "sample/text", "step": 1, "value": "x"},
        {"name": "val_bpb", "step": 1, "value": 1}, {},
    ]  # fmt: skip
    assert [(curve.name, list(curve.points)) for curve in curves_of(records)] == [
        ("train/loss", [(1, 2.0)]), ("val_bpb", [(1, 1.0)]),
    ]  # fmt: skip
