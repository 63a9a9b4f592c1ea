"""``nanochat chat``: which model answers, to what, and how it is shown."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from flows.history import History
from flows.params import PipelineParams
from flows.result import StageResult, result_of
from nanochat.engine.generate import Piece
from nanochat.engine.sampling import Sampling

Cli = Callable[..., Any]


class Session:
    """Stands for a conversation: repeats what it is asked after a tool call."""

    opened: list[Path]
    asked: list[tuple[str, dict[str, Any]]]

    @classmethod
    def open(cls, folder: Path) -> Session:
        cls.opened.append(folder)
        return cls()

    def ask(self, text: str, **options: Any) -> Iterator[Piece]:
        self.asked.append((text, options))
        yield from (Piece("python", "1+1"), Piece("python_output", "2"), Piece("text", f"You said {text}."))


@pytest.fixture(autouse=True)
def _fake_session(monkeypatch: pytest.MonkeyPatch, small_home: Path) -> None:
    Session.opened, Session.asked = [], []
    monkeypatch.setattr("nanochat.engine.chat.ChatSession", Session)


def record_run(home: Path, *refs: str, digest: str = "") -> None:
    """A run that published these artifacts, as its history tells it."""
    history = History(home / "runs", PipelineParams(preset="tiny"))
    for ref in refs:
        stage = ref.partition("/")[0]
        if digest:
            result = StageResult(
                stage=stage, status="ran", artifact=ref, digest=digest, manifest=digest, seconds=0.0
            )
        else:
            manifest = Store.open(create=False).resolve(ref)[1].model_copy(update={"stage": stage})
            result = result_of(manifest, "ran", ref, seconds=0.0)
        history.finished(result)


def test_a_prompt_is_answered_and_the_tool_call_is_shown(cli: Cli) -> None:
    ended = cli("chat", "base/demo", "-p", "hello")
    assert ended.out == "1+1 = 2\nYou said hello.\n"
    assert ended.err == ""
    assert (Session.opened[0] / "payload.txt").is_file()
    assert len(Session.asked) == 1


def test_lines_from_stdin_are_answered_one_by_one_in_one_conversation(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n\n   \nagain\n"))
    out = cli("chat", "base/demo").out
    assert [line for line in out.splitlines() if "said" in line] == ["You said hello.", "You said again."]
    assert len(Session.opened) == 1


def test_options_reach_the_sampling(cli: Cli) -> None:
    cli(
        "chat",
        "base/demo",
        "-p",
        "x",
        "--temperature",
        "0.7",
        "--top-k",
        "5",
        "--top-p",
        "0.9",
        "--min-p",
        "0.05",
        "--repetition-penalty",
        "1.1",
        "--max-tokens",
        "9",
        "--seed",
        "3",
    )
    ((_, options),) = Session.asked
    sampling = Sampling(temperature=0.7, top_k=5, top_p=0.9, min_p=0.05, repetition_penalty=1.1)
    assert options == {"max_tokens": 9, "sampling": sampling, "seed": 3}


@pytest.mark.parametrize(
    "option",
    [
        ("--temperature", "-1"), ("--temperature", "nan"), ("--top-k", "0"), ("--top-p", "0"),
        ("--top-p", "1.1"), ("--min-p", "2"), ("--repetition-penalty", "0"), ("--max-tokens", "0"),
        ("--seed", "x"),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_refused(option: tuple[str, str], cli: Cli) -> None:
    assert option[0] in cli("chat", "base/demo", "-p", "x", *option, rc=2).err
    assert Session.opened == []


def test_an_artifact_that_is_no_model_is_refused(cli: Cli) -> None:
    ended = cli("chat", "tokenizer/demo", rc=2)
    assert ended.err == "error: tokenizer/demo@v2 is no model (kinds that chat: rl, sft, mid, base)\n"


def test_a_damaged_model_does_not_answer(cli: Cli, damage: Callable[..., Path]) -> None:
    damage("base/demo@v1", "payload.txt")
    assert "base/demo@v1 is damaged" in cli("chat", "base/demo", "-p", "x", rc=3).err
    assert Session.opened == []


def test_without_a_ref_the_model_of_the_last_run_answers_and_is_named(cli: Cli, small_home: Path) -> None:
    record_run(small_home, "tokenizer/demo@v1", "base/demo@v1")
    ended = cli("chat", "-p", "hello")
    assert ended.err == "base/demo@v1\n"
    assert "You said hello." in ended.out


def test_a_later_run_without_a_model_is_passed_over(cli: Cli, small_home: Path) -> None:
    record_run(small_home, "base/demo@v1")
    record_run(small_home, "tokenizer/demo@v2")
    assert cli("chat", "-p", "x").err == "base/demo@v1\n"


def test_a_model_that_this_store_does_not_hold_is_passed_over(cli: Cli, small_home: Path) -> None:
    record_run(small_home, "base/demo@v1")
    record_run(small_home, "rl/demo@v1", "base/demo@v1", digest="f" * 64)
    assert cli("chat", "-p", "x").err == "base/demo@v1\n"
    assert Session.opened


def test_before_the_first_run_there_is_a_way_to_a_model(cli: Cli) -> None:
    ended = cli("chat", "-p", "x", rc=4)
    assert ended.err == "error: no model was trained here yet (nanochat run demo trains one)\n"


def test_the_newest_of_several_runs_counts(cli: Cli, small_home: Path) -> None:
    record_run(small_home, "base/demo@v1")
    runs = sorted((small_home / "runs").iterdir())
    newer = json.loads(runs[0].read_text())
    store = Store.open(create=False)
    manifest = store.resolve("base/demo")[1]
    newer["stages"][0]["artifact"] = str(store.name(manifest, "renamed"))
    (small_home / "runs" / "99990101T000000.000000-tiny.json").write_text(json.dumps(newer))
    assert cli("chat", "-p", "x").err == "base/renamed@v1\n"
