"""A stage that is put together from finished parts instead of running its program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.build import Builder, Work
from flows.dag import Stage
from flows.observe import Observer
from flows.result import StageResult
from tests.unit.flows.fake_program import FakeConfig


def part(builder: Builder, stage: Stage, text: str, file: str) -> StageResult:
    config = FakeConfig(text=text, shards=[file])
    named = builder.work(stage, {})
    recipe = {**named.recipe, "config": config.identity()}
    return builder.build(Work(stage, config, {}, None, recipe), Observer())


def test_the_whole_has_the_files_of_its_parts_and_the_sums_of_their_counts(
    make_builder: Callable[..., Builder], first: Stage, home: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "pid"
    builder = make_builder(first={"pid_file": str(ran)})
    parts = [part(builder, first, "12345", "one"), part(builder, first, "67", "two")]
    assert [(result.artifact, result.status) for result in parts] == [("", "ran"), ("", "ran")]
    whole = builder.build(builder.work(first, {}), Observer(), parts)
    folder = builder.checkout(whole)
    assert {path.name for path in folder.glob("*.txt")} == {"one.txt", "two.txt"}
    assert (folder / "two.txt").read_text() == "67 "
    assert whole.artifact == "tokenizer/demo@v1"
    assert whole.metrics == {"bytes": 7}, "a loss is no sum"
    assert not ran.exists(), "the program did not run"


def test_a_part_is_found_by_its_fingerprint(make_builder: Callable[..., Builder], first: Stage) -> None:
    builder = make_builder(first={})
    made = part(builder, first, "same", "one")
    again = part(builder, first, "same", "one")
    assert (made.status, again.status) == ("ran", "cached")
    assert made.digest == again.digest
    assert builder.store.list() == []
