"""A conversation with a model: what a person says in, the pieces of the answer out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from artifacts.errors import UsageError
from nanochat.engine.budget import fit
from nanochat.engine.calculator import calculate
from nanochat.engine.generate import Engine, Piece
from nanochat.engine.inference_model import InferenceModel
from nanochat.engine.model_folder import open_model
from nanochat.engine.sampling import GREEDY, Sampling
from nanochat.engine.turn import Calculator

MAX_TOKENS = 256  # of one answer


class ChatSession:
    """Remembers the conversation as far as the model's context reaches."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.messages: list[dict[str, Any]] = []

    @classmethod
    def open(
        cls, model_folder: Path, *, device: str = "cpu", calculator: Calculator = calculate
    ) -> ChatSession:
        """A new conversation with the model of ``model_folder``."""
        model, tokenizer = open_model(model_folder, device)
        return cls(Engine(InferenceModel(model), tokenizer, calculator))

    def ask(
        self, text: str, *, max_tokens: int = MAX_TOKENS, sampling: Sampling = GREEDY, seed: int = 0
    ) -> Iterator[Piece]:
        """Answer ``text`` piece by piece; question and answer are remembered when the answer is complete.

        Older exchanges that no longer fit are forgotten, said by a piece of kind ``notice``. Raises
        UsageError if ``text`` is empty or alone too long for the context.
        """
        if not text.strip():
            raise UsageError("an empty message", "say something")
        messages = [*self.messages, {"role": "user", "content": text}]
        engine = self._engine
        prompt, forgotten = fit(
            engine.tokenizer, messages, context_tokens=engine.context_tokens, answer_tokens=max_tokens
        )
        if forgotten:
            messages = messages[forgotten:]
            yield Piece("notice", f"(the first {forgotten} messages no longer fit and are forgotten)\n")
        parts: list[dict[str, str]] = []
        for piece in engine.stream(prompt, max_tokens=max_tokens, sampling=sampling, seed=seed):
            if not parts or parts[-1]["type"] != piece.kind:
                parts.append({"type": piece.kind, "text": ""})
            parts[-1]["text"] += piece.text
            yield piece
        self.messages = [*messages, {"role": "assistant", "content": parts or ""}]


def readable(pieces: Iterable[Piece]) -> Iterator[str]:
    """A streamed answer as lines for a terminal: a tool call as ``expression = output``, then the text."""
    before = None
    for piece in pieces:
        if piece.kind == "python_output" and before == "python":
            yield " = "
        elif piece.kind != before and before in ("python", "python_output"):
            yield "\n"
        before = piece.kind
        yield piece.text
