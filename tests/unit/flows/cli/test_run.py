"""``nanochat run``: what it prints at the end, how it checks, and what Ctrl-C does."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from flows.cli.run import chat_model, interruptible
from flows.launch import STOP
from flows.observe import Observer
from flows.params import PipelineParams
from flows.result import StageResult, result_of
from flows.run import Outcome

Cli = Callable[..., Any]


@pytest.fixture
def asked(small_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[PipelineParams]:
    """What the pipeline is asked for; instead of running it, the small store's artifacts are found."""
    asked: list[PipelineParams] = []

    def execute(params: PipelineParams, observer: Observer) -> Outcome:
        asked.append(params)
        store = Store.open(create=False)
        results = []
        for ref in ("tokenizer/demo@v1", "base/demo@v1"):
            manifest = store.resolve(ref)[1]
            manifest = manifest.model_copy(update={"stage": manifest.kind})
            results.append(result_of(manifest, "cached", ref, seconds=0.25))
            observer.finished(results[-1])
        return Outcome(results, Path("/home/reports/demo/report.html"))

    monkeypatch.setattr("flows.cli.run.execute", execute)
    return asked


def test_at_the_end_there_is_a_table_the_report_and_how_to_chat(
    cli: Cli, asked: list[PipelineParams]
) -> None:
    lines = [" ".join(line.split()) for line in cli("run", "tiny").out.splitlines()]
    assert "base cached 0.2 base/demo@v1 loss 1" in lines
    assert lines[-2:] == [
        "report: /home/reports/demo/report.html",
        'chat: nanochat chat base/demo@v1 -p "What is 37 + 45?"',
    ]
    assert asked == [PipelineParams(preset="tiny")]


def test_with_json_stdout_has_a_line_a_stage_and_nothing_else(cli: Cli, asked: list[PipelineParams]) -> None:
    ended = cli("run", "tiny", "--json")
    assert [json.loads(line)["stage"] for line in ended.out.splitlines()] == ["tokenizer", "base"]
    assert ended.err == ""


def test_every_option_arrives(cli: Cli, asked: list[PipelineParams]) -> None:
    cli("run", "tiny", "--set", "depth=3", "--set", "rl.steps=2", "--name", "mine", "--store", "/tmp/s",
        "--until", "base", "--force", "mid", "--force", "rl", "--reuse", "base=base/demo@v1")  # fmt: skip
    assert asked == [
        PipelineParams(
            preset="tiny", set={"depth": 3, "rl.steps": 2}, name="mine", store="/tmp/s", until="base",
            force=["mid", "rl"], reuse={"base": "base/demo@v1"},
        )
    ]  # fmt: skip


def test_the_hint_to_chat_names_the_store_if_it_is_another(cli: Cli, asked: list[PipelineParams]) -> None:
    assert 'chat base/demo@v1 --store /tmp/s -p "' in cli("run", "tiny", "--store", "/tmp/s").out


def test_verify_checks_every_byte_and_names_the_stage_to_rebuild(
    cli: Cli, asked: list[PipelineParams], damage: Callable[..., Path]
) -> None:
    cli("run", "tiny", "--verify")
    damage("base/demo@v1", "payload.txt")
    cli("run", "tiny")
    ended = cli("run", "tiny", "--verify", rc=3)
    assert ended.err.splitlines()[-1] == (
        "error: base/demo@v1: payload.txt does not have its sha256"
        " (rebuild it: nanochat run PRESET --force second)"
    )


@pytest.mark.parametrize(
    ("stages", "model"),
    [(["base", "rl", "sft"], "rl"), (["base", "mid"], "mid"), (["shards", "eval-rl"], None), ([], None)],
)
def test_the_model_to_chat_with_is_the_furthest_trained(stages: list[str], model: str | None) -> None:
    results = [
        StageResult(stage=stage, status="ran", digest="0", manifest="0", seconds=0.0) for stage in stages
    ]
    found = chat_model(results)
    assert (found and found.stage) == model


def test_ctrl_c_asks_then_ends_then_leaves(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr("flows.cli.run.os._exit", left.append)
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        for pulls in (1, 2):
            signal.raise_signal(signal.SIGINT)
            assert (STOP.pulls, left) == (pulls, [])
        signal.raise_signal(signal.SIGINT)
    assert left == [130]
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("Ctrl-C again stops at once") == 1


def test_after_a_failure_ctrl_c_means_what_it_meant() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), interruptible():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before
