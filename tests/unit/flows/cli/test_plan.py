"""``nanochat plan``: the reasons as people read them, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.build import Builder
from flows.dag import STAGE_IDS, Stage
from flows.params import PipelineParams

Cli = Callable[..., Any]
Make = Callable[..., Builder]


@pytest.fixture
def planned(
    first: Stage,
    second: Stage,
    make_builder: Make,
    small_home: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, str]]:
    """``planned("--force", "rl", first={...})``: stage -> its line, over the fake stages in a small store."""

    def run(*arguments: str, **configs: dict[str, Any]) -> dict[str, str]:
        def open_builder(params: PipelineParams) -> Builder:
            forced = {"second"} if params.forced else set()
            return make_builder(forced=forced, **{"first": {}, "second": {}, **configs})

        monkeypatch.setattr("flows.cli.plan.open_builder", open_builder)
        monkeypatch.setattr("flows.plan.until", lambda last: (first, second))
        lines = [" ".join(line.split()) for line in cli("plan", "tiny", *arguments).out.splitlines()]
        return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}

    return run  # fmt: skip


def test_a_real_preset_is_planned_in_an_empty_store(cli: Cli, home: Path) -> None:
    plan = json.loads(cli("plan", "tiny", "--json").out)
    assert plan["preset"] == "tiny"
    assert [stage["stage"] for stage in plan["stages"]] == list(STAGE_IDS)
    assert [stage["status"] for stage in plan["stages"]] == ["run"] + ["unknown"] * (len(STAGE_IDS) - 1)
    assert "never built" in cli("plan", "tiny").out


def test_until_ends_the_plan(cli: Cli, home: Path) -> None:
    plan = json.loads(cli("plan", "tiny", "--until", "tokenizer", "--name", "mine", "--json").out)
    assert [stage["artifact"] for stage in plan["stages"]] == ["shards/mine", "tokenizer/mine"]


def test_what_is_cached_needs_no_reason(planned: Callable[..., dict[str, str]]) -> None:
    assert planned()["second"] == "cached base/demo@v1"


def test_a_changed_field_shows_old_and_new_and_the_next_stage_waits(
    planned: Callable[..., dict[str, str]],
) -> None:
    lines = planned(first={"text": "new"})
    assert lines["first"] == "run tokenizer/demo text: 'other' → 'new'"
    assert lines["second"] == "unknown base/demo waits for tokenizer"


def test_a_long_value_is_shortened(planned: Callable[..., dict[str, str]]) -> None:
    assert planned(first={"text": "x" * 500})["first"].endswith(f"text: 'other' → '{'x' * 36}…")


def test_a_changed_module_is_named(
    planned: Callable[..., dict[str, str]], make_builder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.identity.program_digests", lambda *_: ({"nanochat.new": "1" * 64}, False))
    line = planned(first={"text": "other"})["first"]
    assert line == "run tokenizer/demo module fake removed; module nanochat.new added"


def test_a_forced_stage_says_so(
    planned: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PipelineParams, "forced", frozenset({"second"}))
    assert planned()["second"] == "run base/demo forced"


def test_another_machine_is_a_warning_on_stderr_once(
    planned: Callable[..., dict[str, str]], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned()
    monkeypatch.setattr("flows.plan.metadata.version", lambda name: "0.1")
    ended = cli("plan", "tiny", "--json")
    warnings = [line for line in ended.err.splitlines() if "torch" in line]
    assert len(warnings) == len(set(warnings)) == 2
    assert all(line.startswith("warning: ") and line.endswith("here it is 0.1") for line in warnings)
    assert json.loads(ended.out)["stages"][0]["status"] == "cached"
