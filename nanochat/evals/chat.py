"""Chat tasks: a model's engine and examples in, the grade of every problem and totals with intervals out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nanochat.engine.chat import readable
from nanochat.engine.generate import BATCH_ROWS, Completion, Engine, Piece
from nanochat.evals.statistics import bootstrap_interval, wilson_interval
from nanochat.tasks.task import Example, Grade, Task
from nanochat.tokenizer.chat import render_for_completion


@dataclass(frozen=True)
class Outcome:
    """One problem: what was asked, what the model did, and what that is worth."""

    example: Example
    completion: Completion
    grade: Grade

    def as_json(self) -> dict[str, Any]:
        """The record of this problem in ``results.json``; a tool call reads ``expression = output``."""
        said = "".join(readable(Piece(kind, text) for kind, text in self.completion.parts))
        question = self.example.conversation["messages"][-2]["content"]
        return {
            "id": self.example.id, "correct": self.grade.correct, "score": round(self.grade.score, 6),
            "question": question, "answer": said, **self.grade.details,
        }  # fmt: skip


def run_task(
    engine: Engine, task: Task, examples: Sequence[Example], *, max_tokens: int, batch_rows: int = BATCH_ROWS
) -> list[Outcome]:
    """Answer every example greedily and grade it, in order."""
    prompts = [render_for_completion(engine.tokenizer, example.conversation) for example in examples]
    completions = engine.generate(prompts, max_tokens=max_tokens, batch_rows=batch_rows)
    return [
        Outcome(example, completion, task.grade(example, completion))
        for example, completion in zip(examples, completions, strict=True)
    ]


def metrics_of(outcomes: Sequence[Outcome], task: str, split: str, seed: int = 0) -> list[dict[str, Any]]:
    """Rows for ``results.json``: accuracy and, for docs, shares of its parts and mean token F1."""

    def row(name: str, value: float, interval: tuple[float, float]) -> dict[str, Any]:
        low, high = interval
        return {"name": name, "task": task, "split": split, "value": round(value, 6), "n": len(outcomes),
                "ci_low": round(low, 6), "ci_high": round(high, 6)}  # fmt: skip

    def share(name: str, holds: Callable[[Outcome], bool]) -> dict[str, Any]:
        count = sum(holds(outcome) for outcome in outcomes)
        return row(name, count / max(len(outcomes), 1), wilson_interval(count, len(outcomes)))

    rows = [share("eval/accuracy", lambda outcome: outcome.grade.correct)]
    rows.append(share("eval/ended", lambda outcome: outcome.completion.ended))
    if outcomes and "named" in outcomes[0].grade.details:
        rows.append(share("eval/named", lambda outcome: outcome.grade.correct))
        scores = [outcome.grade.score for outcome in outcomes]
        rows.append(row("eval/token_f1", sum(scores) / len(scores), bootstrap_interval(scores, seed)))
    return rows
