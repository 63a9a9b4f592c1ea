"""What Prefect shows of a stage; a Prefect that refuses everything stops no training."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows import publish
from flows.publish import PrefectObserver, lineage_markdown, metrics_table, publish_run, run_table
from flows.result import StageResult
from nanochat.records import RecordWriter

PROGRESS = UUID(int=7)
RESULT = StageResult(
    stage="base", status="ran", artifact="base/demo@v1", digest="ab" * 32, manifest="1" * 64,
    seconds=1.5, metrics={"val_bpb": 1.91234, "steps": 20}, key_metric="val_bpb",
)  # fmt: skip


class Prefect:
    """Stands for Prefect: remembers what is published and logged, on a clock that the test moves."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[tuple[int, str]] = []
        self.now = 0.0
        self.refuses = False

    def call(self, kind: str, answer: object = None) -> Callable[..., object]:
        def publish(*arguments: object, **values: Any) -> object:
            if self.refuses:
                raise ConnectionError("the server is away")
            self.made.append((kind, {**values, "id": arguments[0]} if arguments else values))
            return answer

        return publish

    def keys(self, kind: str) -> list[str]:
        return [values["key"] for made, values in self.made if made == kind]

    def observer(self, name: str = "demo") -> PrefectObserver:
        return PrefectObserver("base", name, ["tokens/demo@v1"], now=lambda: self.now)


class Lines(logging.Handler):
    """Keeps the lines of a logger."""

    def __init__(self, lines: list[tuple[int, str]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelno, record.getMessage()))


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    fake, logger = Prefect(), logging.Logger("run")
    logger.addHandler(Lines(fake.lines))
    monkeypatch.setattr(publish, "get_run_logger", lambda: logger)
    monkeypatch.setattr(publish, "create_progress_artifact", fake.call("progress", PROGRESS))
    monkeypatch.setattr(publish, "update_progress_artifact", fake.call("update"))
    monkeypatch.setattr(publish, "create_table_artifact", fake.call("table"))
    monkeypatch.setattr(publish, "create_markdown_artifact", fake.call("markdown"))
    monkeypatch.setattr(publish, "curve_markdown", lambda records, title: f"{len(list(records))} of {title}")
    return fake


@pytest.fixture
def records(tmp_path: Path) -> Path:
    writer = RecordWriter(tmp_path / "records.jsonl", "base")
    for step in range(1, 4):
        writer.write("train/loss", 3.0 - step, step=step)
        writer.write("stage/progress", step / 4, step=step)
    return writer.path


def test_curves_are_published_again_at_most_once_a_minute(prefect: Prefect, records: Path) -> None:
    observer = prefect.observer()
    observer.started("base", "running")
    for second in range(0, 181):
        prefect.now = float(second)
        observer.tick("base", records)
    curves = [values for kind, values in prefect.made if kind == "markdown"]
    wanted = {"key": "demo-base-loss", "description": "curves of base of demo"}
    assert curves == [{**wanted, "markdown": "6 of base of demo"}] * 3


def test_a_short_stage_gets_its_curve_when_it_ends(prefect: Prefect, records: Path) -> None:
    observer = prefect.observer()
    observer.tick("base", records)
    assert prefect.keys("markdown") == []
    observer.ended("base", records)
    assert prefect.keys("markdown") == ["demo-base-loss"]


def test_progress_is_one_artifact_that_moves_to_the_end(prefect: Prefect, records: Path) -> None:
    observer = prefect.observer()
    observer.started("base", "waiting for another run")
    observer.started("base", "running")
    observer.ended("base", records)
    observer.finished(RESULT)
    assert prefect.keys("progress") == ["demo-base-progress"]
    updates = [values for kind, values in prefect.made if kind == "update"]
    assert updates == [{"id": PROGRESS, "progress": 75.0}, {"id": PROGRESS, "progress": 100.0}]


def test_a_cached_stage_shows_its_metrics_and_lineage_as_well(prefect: Prefect) -> None:
    cached = RESULT.model_copy(update={"status": "cached"})
    prefect.observer().finished(cached)
    assert prefect.keys("table") == ["demo-base-metrics"]
    assert prefect.keys("markdown") == ["demo-base-lineage"]
    assert not [kind for kind, _ in prefect.made if kind in ("progress", "update")], "it did not run"
    assert (logging.INFO, "base: cached base/demo@v1") in prefect.lines


def test_a_stage_put_together_from_its_parts_ends_at_100_percent(prefect: Prefect) -> None:
    prefect.observer().finished(RESULT)
    assert [values["progress"] for kind, values in prefect.made if kind == "progress"] == [100]


def test_waiting_for_another_run_ends_at_100_percent(prefect: Prefect) -> None:
    observer = prefect.observer()
    observer.started("base", "waiting for another run")
    observer.finished(RESULT.model_copy(update={"status": "cached"}))
    assert [values["progress"] for kind, values in prefect.made if kind in ("progress", "update")] == [0, 100]


def test_keys_have_the_form_that_prefect_accepts(prefect: Prefect) -> None:
    prefect.observer("my.model_2--x").finished(RESULT)
    assert prefect.keys("table") == ["my-model-2-x-base-metrics"]


def test_a_failure_to_publish_is_logged_and_never_raised(prefect: Prefect, records: Path) -> None:
    prefect.refuses = True
    observer = prefect.observer()
    observer.started("base", "running")
    prefect.now = 61.0
    observer.tick("base", records)
    observer.ended("base", records)
    observer.finished(RESULT)
    publish_run("demo", [RESULT], None)
    warnings = [text for level, text in prefect.lines if level == logging.WARNING]
    assert warnings.count("base of demo: not published: the server is away") == len(warnings) - 1 >= 5
    assert warnings[-1] == "the run's table was not published: the server is away"
    assert prefect.made == []


def test_damaged_records_are_logged_and_never_raised(prefect: Prefect, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("not json\n{}\n")
    prefect.observer().ended("base", tmp_path / "records.jsonl")
    assert [level for level, _ in prefect.lines] == [logging.WARNING]


def test_a_failed_update_is_tried_again_a_minute_later(prefect: Prefect, records: Path) -> None:
    observer = prefect.observer()
    for prefect.now, prefect.refuses in ((60.0, True), (61.0, False), (119.0, False), (120.0, False)):
        observer.tick("base", records)
    assert len(prefect.keys("markdown")) == 1
    assert len(prefect.lines) == 1


@pytest.mark.parametrize(("urgent", "level"), [(True, logging.WARNING), (False, logging.INFO)])
def test_what_the_child_prints_is_in_the_log_word_for_word(
    urgent: bool, level: int, prefect: Prefect
) -> None:
    prefect.observer().log("base", "100 % done, %s", urgent)
    assert prefect.lines == [(level, "100 % done, %s")]


def test_the_metrics_table_says_what_was_made_and_how() -> None:
    table = {row["name"]: row["value"] for row in metrics_table(RESULT)}
    assert table == {
        "artifact": "base/demo@v1", "digest": "ab" * 6, "status": "ran", "val_bpb": 1.91234, "steps": 20,
    }  # fmt: skip


def test_the_runs_table_has_a_row_a_stage_and_says_where_the_report_is(prefect: Prefect) -> None:
    publish_run("My.Demo", [RESULT, RESULT], Path("/reports/report.html"))
    (_, values), (_, page) = prefect.made
    assert values["key"] == "my-demo-run"
    assert page["key"] == "my-demo-artifacts"
    assert "| base | ran | base/demo@v1 | val_bpb 1.912 |" in page["markdown"]
    assert "`/reports/report.html`" in page["markdown"]
    assert values["description"] == "report: /reports/report.html"
    row = {
        "stage": "base", "status": "ran", "seconds": 1.5, "artifact": "base/demo@v1",
        "metric": "val_bpb 1.912",
    }  # fmt: skip
    assert values["table"] == run_table([RESULT, RESULT]) == [row, row]
    assert json.dumps(values["table"])


def test_artifacts_are_links_where_there_is_a_web_app(prefect: Prefect) -> None:
    web = "http://127.0.0.1:4280/"
    publish_run("demo", [RESULT], None, web)
    link = "[base/demo@v1](http://127.0.0.1:4280/artifacts/base/demo@v1)"
    assert f"| {link} |" in prefect.made[-1][1]["markdown"]
    text = lineage_markdown(RESULT, ["tokens/demo@v1", "tokenize-shard@sha256:abc"], web)
    assert f"{link} · [tokens/demo@v1](" in text
    assert "tokenize-shard" not in text.partition("```")[0]
    assert "](" not in lineage_markdown(RESULT, ["tokens/demo@v1"])


def test_the_report_is_a_link_where_there_is_a_web_app(prefect: Prefect) -> None:
    report = RESULT.model_copy(update={"stage": "report", "artifact": "report/demo@v1"})
    publish_run("demo", [RESULT, report], Path("/reports/report.html"), "http://127.0.0.1:4280")
    link = "(http://127.0.0.1:4280/artifacts/report/demo@v1/report.html)"
    assert f"[Read the report]{link}" in prefect.made[-1][1]["markdown"]


def test_lineage_is_a_graph_from_every_parent_to_the_artifact() -> None:
    text = lineage_markdown(RESULT, ["tokens/demo@v1", "tokenizer/demo@v1"])
    assert 'p0["tokens/demo@v1"] --> child["base/demo@v1"]' in text
    assert 'p1["tokenizer/demo@v1"] --> child["base/demo@v1"]' in text
    assert "ab" * 32 in text


def test_what_has_no_parents_or_no_name_is_drawn_too() -> None:
    part = RESULT.model_copy(update={"artifact": ""})
    assert f'graph LR\n  child["{"ab" * 6}"]\n' in lineage_markdown(part, [])


@pytest.mark.parametrize(
    ("changed", "announced"),
    [
        ({}, ["base/demo@v1"]),
        ({"note": "now base/demo@v1"}, ["base/demo@v1"]),
        ({"note": "identical"}, []),
        ({"status": "cached"}, []),
        ({"artifact": "tokens/demo@v1"}, []),
        ({"artifact": ""}, []),
    ],
)
def test_a_model_is_announced_by_what_built_it(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], announced: list[str]
) -> None:
    monkeypatch.setattr(publish, "emit_event", prefect.call("event"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    publish.announce(RESULT.model_copy(update=changed), "s3://bucket/store")
    assert [event["payload"]["model"] for _, event in prefect.made] == announced
    assert {event["payload"]["store"] for _, event in prefect.made} <= {"s3://bucket/store"}


def test_without_a_server_nothing_is_announced(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "emit_event", prefect.call("event"))
    monkeypatch.setattr(publish, "prefect_server_is_configured", lambda: False)
    publish.announce(RESULT)
    assert prefect.made == []
