"""What would run and why; asking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import DataError
from flows.build import Builder
from flows.dag import Stage
from flows.launch import threads
from flows.observe import Observer
from flows.plan import Planned, differences, make_plan

Make = Callable[..., Builder]


@pytest.fixture(autouse=True)
def _two_stages(first: Stage, second: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.plan.until", lambda last: (first,) if last == "first" else (first, second))


def status(plan: list[Planned]) -> list[tuple[str, str, str]]:
    return [(stage.stage, stage.status, stage.artifact) for stage in plan]


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_in_an_empty_store_the_first_runs_and_the_rest_is_unknown(make_builder: Make) -> None:
    plan = make_plan(make_builder(first={}, second={}))
    assert status(plan) == [("first", "run", "tokenizer/demo"), ("second", "unknown", "base/demo")]
    assert plan[0].reasons == []
    assert plan[1].reasons == [{"what": "input", "name": "tokenizer", "old": None, "new": None}]
    assert plan[1].fingerprint is None


def test_the_plan_stops_where_it_is_told_to(make_builder: Make) -> None:
    assert [stage.stage for stage in make_plan(make_builder(first={}), "first")] == ["first"]


def test_what_is_built_is_cached_under_its_version_and_asking_writes_nothing(
    make_builder: Make, small_home: Path
) -> None:
    before = files(small_home)
    plan = make_plan(make_builder(first={}, second={}))
    assert [stage.status for stage in plan] == ["cached", "cached"]
    assert plan[1].artifact == "base/demo@v1"
    assert plan[1].reasons == []
    assert files(small_home) == before


def test_an_older_version_is_cached_too_but_the_name_does_not_mean_it(
    make_builder: Make, small_home: Path
) -> None:
    plan = make_plan(make_builder(first={}, second={}))
    assert status(plan)[0] == ("first", "cached", "tokenizer/demo")
    newest = make_plan(make_builder(first={"text": "other"}, second={}))
    assert status(newest)[0] == ("first", "cached", "tokenizer/demo@v2")


def test_a_changed_field_is_the_reason_with_its_old_and_new_value(
    make_builder: Make, small_home: Path
) -> None:
    first, second = make_plan(make_builder(first={"text": "new"}, second={}))
    assert first.status == "run"
    assert first.reasons == [{"what": "field", "name": "text", "old": "other", "new": "new"}]
    (reason,) = second.reasons
    assert (reason["name"], reason["new"]) == ("tokenizer", None)
    assert len(reason["old"]) == 64


def test_a_changed_module_is_the_reason(
    make_builder: Make, small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = make_builder(first={"text": "other"}, second={})
    monkeypatch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "1" * 64}, False))
    assert make_plan(builder)[0].reasons == [
        {"what": "module", "name": "fake", "old": "0" * 64, "new": "1" * 64}
    ]


def test_a_forced_stage_runs_although_nothing_changed(make_builder: Make, small_home: Path) -> None:
    plan = make_plan(make_builder(first={"text": "other"}, second={}, forced={"first"}))
    assert [stage.status for stage in plan] == ["run", "unknown"]
    assert plan[0].reasons == []


def test_what_another_name_built_is_cached_and_gets_no_name_yet(make_builder: Make, small_home: Path) -> None:
    builder = make_builder(first={}, second={})
    other = Builder(builder.store, builder.settings, builder.configs, "twin")
    assert status(make_plan(other)) == [
        ("first", "cached", "tokenizer/twin"),
        ("second", "cached", "base/twin"),
    ]
    assert builder.store.list("base", "twin") == []


def test_a_damaged_artifact_is_not_planned_around(make_builder: Make, small_home: Path) -> None:
    for blob in (small_home / "store" / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    with pytest.raises(DataError, match=r"tokenizer/demo@v1.*--force first"):
        make_plan(make_builder(first={}, second={}))


def test_the_line_of_the_json_has_these_keys(make_builder: Make) -> None:
    line = make_plan(make_builder(first={}, second={}))[0].line()
    assert list(line) == ["stage", "status", "artifact", "fingerprint", "reasons"]


@pytest.mark.parametrize(
    ("versions", "settings", "said"),
    [
        ({"torch": "1.0"}, {}, ["first was built with torch 1.0, here it is"]),
        ({"python": "2.7"}, {"threads": 64}, ["with python 2.7", "with threads 64, here it is 2"]),
        ({}, {"threads": 2}, []),
        ({}, {}, []),
    ],
)
def test_another_machine_is_warned_of(
    versions: dict[str, str], settings: dict[str, Any], said: list[str],
    make_builder: Make, small_home: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    built = make_builder().store.resolve("tokenizer/demo@v1")[1]
    provenance = built.provenance.model_copy(update={"versions": versions, "settings": settings})
    warnings = differences(built.model_copy(update={"provenance": provenance}), "2")
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))


@pytest.mark.parametrize("overlap", [False, True])
def test_what_was_built_here_differs_in_nothing(
    overlap: bool, make_builder: Make, first: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    builder = replace(make_builder(first={}, second={}), overlap=overlap)
    builder.build(builder.work(first, {}), Observer())
    assert make_plan(builder)[0].warnings == []
    built = builder.store.resolve("tokenizer/demo")[1]
    assert built.provenance.settings["threads"] == threads(1, overlap)
