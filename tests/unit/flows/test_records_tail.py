"""The newest measurements of a file that somebody else still writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.records_tail import newest_values, progress_text
from nanochat.records import RecordWriter


@pytest.fixture
def records(tmp_path: Path) -> Path:
    writer = RecordWriter(tmp_path / "records.jsonl", "base")
    for step in (1, 2):
        writer.write("train/loss", 3.0 - step, step=step)
        writer.write("stage/progress", step / 4, step=step)
    return writer.path


def test_each_name_has_its_newest_record(records: Path) -> None:
    values = newest_values(records)
    assert {name: (value["step"], value["value"]) for name, value in values.items()} == {
        "train/loss": (2, 1.0), "stage/progress": (2, 0.5),
    }  # fmt: skip


def test_a_file_cut_off_anywhere_gives_what_is_whole(records: Path) -> None:
    data = records.read_bytes()
    first_line = data.index(b"\n") + 1
    for size in range(len(data)):
        records.write_bytes(data[:size])
        values = newest_values(records)
        assert len(values) == min(2, data[:size].count(b"\n")), size
        assert "train/loss" in values or size < first_line
        assert all(value["stage"] == "base" for value in values.values())


def test_a_torn_line_in_the_middle_is_left_out(records: Path) -> None:
    torn = records.read_bytes()[:-20] + b"\n"
    strange = b"\n\xff\xfe\n\x00\x00\n17\n{}\nnull\n"
    records.write_bytes(torn + torn.splitlines()[0] + strange)
    assert newest_values(records)["train/loss"]["step"] == 1
    assert newest_values(records)["stage/progress"]["step"] == 1


def test_of_a_long_file_only_the_end_is_read(records: Path) -> None:
    writer = RecordWriter(records, "base")
    writer.write("val_bpb", 9.0, step=0)
    for step in range(400):
        writer.write("train/loss", 1.0 / (step + 1), step=step)
    assert records.stat().st_size > 1 << 16
    values = newest_values(records)
    assert list(values) == ["train/loss"]
    assert values["train/loss"]["step"] == 399


def test_before_the_first_record_there_is_nothing(tmp_path: Path) -> None:
    assert newest_values(tmp_path / "absent") == {}
    (tmp_path / "empty").touch()
    assert newest_values(tmp_path / "empty") == {}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, ""),
        ({"stage/progress": 0.256}, "26 %"),
        ({"train/loss": 2.34567, "train/tokens_per_second": 12345.6}, "step 7 loss 2.346  12,346 tokens/s"),
        ({"stage/progress": 1, "rl/reward": 0.5}, "100 %  step 7 reward 0.500"),
        ({"val_bpb": 1.0}, ""),
    ],
)
def test_progress_is_one_short_line(values: dict[str, float], text: str) -> None:
    newest = {name: {"name": name, "value": value, "step": 7} for name, value in values.items()}
    assert progress_text(json.loads(json.dumps(newest))) == text
