"""Task evaluation: prompts hold no answer, outcomes keep their order, totals carry n and interval."""

from __future__ import annotations

import json

from nanochat.engine.generate import Completion, Engine
from nanochat.evals.chat import Outcome, metrics_of, run_task
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.task import Example, Grade, dialogue
from tests.unit.nanochat.engine.scripted import ByteTokenizer, ScriptedModel, script

BOS = ByteTokenizer().special("bos")


def test_a_task_is_answered_and_graded_in_order() -> None:
    task = Arithmetic("easy")
    examples = task.examples("test", 4, 0)
    wrong = examples[2]
    expression = examples[0].conversation["messages"][1]["content"][0]["text"]
    said = script(
        "<python_start>", expression, "<python_end>", f"= {examples[0].reference}.", "<assistant_end>"
    )
    model = ScriptedModel({BOS: said})
    outcomes = run_task(Engine(model, ByteTokenizer()), task, examples, max_tokens=100, batch_rows=3)
    assert [outcome.example for outcome in outcomes] == examples
    assert outcomes[0].grade.correct
    assert outcomes[2].grade.correct == (wrong.reference == examples[0].reference)
    assert all(prompt[-1] == ByteTokenizer().special("assistant_start") for prompt in model.prompts)
    record = json.loads(json.dumps(outcomes[0].as_json(), allow_nan=False))
    assert record["answer"].startswith(f"{expression} = {examples[0].reference}\n")
    assert record["question"] == examples[0].conversation["messages"][0]["content"]


def outcome(correct: bool, score: float, ended: bool) -> Outcome:
    completion = Completion([1], [1], ended)
    return Outcome(
        Example("x", dialogue("q", "a"), "a"), completion, Grade(correct, score, {"named": correct})
    )


def test_totals_are_shares_and_means() -> None:
    outcomes = [outcome(True, 0.5, True), outcome(False, 0.1, True), outcome(False, 0.0, False)]
    rows = {row["name"]: row for row in metrics_of(outcomes, "docs", "test")}
    assert {name: round(row["value"], 3) for name, row in rows.items()} == {
        "eval/accuracy": 0.333, "eval/ended": 0.667, "eval/named": 0.333, "eval/token_f1": 0.2,
    }  # fmt: skip
    assert all(row["n"] == 3 and row["ci_low"] <= row["value"] <= row["ci_high"] for row in rows.values())


def test_an_empty_test_set_says_so() -> None:
    (accuracy, _) = metrics_of([], "docs", "test")
    assert (accuracy["n"], accuracy["ci_low"], accuracy["ci_high"]) == (0, 0, 1)
