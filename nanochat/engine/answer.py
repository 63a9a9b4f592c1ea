"""One answer as it grows: tokens in, complete characters of one kind out, up to a stop string."""

from __future__ import annotations

import codecs
from collections import deque

from nanochat.engine.request import Delta, TokenLogprob
from nanochat.engine.stop_strings import StopStrings
from nanochat.engine.turn import Kind, PartReader
from nanochat.tokenizer.tokenizer import Tokenizer

_utf8 = codecs.getincrementaldecoder("utf-8")


class Answer:
    """Reads the tokens of a turn. A stop string is looked for in each part of text by itself, not in calls.

    A token's log-probability comes with the first character that it adds to, or as soon as that is decided.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._reader = PartReader(tokenizer)
        self.stopped = False
        self._begin("text")

    def _begin(self, kind: Kind) -> None:
        self._kind: Kind = kind
        self._decoder = _utf8(errors="replace")
        self._stops = StopStrings(self._stop if kind == "text" else ())
        self._read = self._given = 0  # characters of this part
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # with the characters read before each

    def read(self, token: int, logprob: TokenLogprob | None = None) -> list[Delta]:
        """What ``token`` adds. After a stop string, which ``stopped`` tells, nothing more."""
        kind = self._reader.read(token)
        if kind is None:
            return self.close()
        deltas = []
        if kind != self._kind:
            deltas = self.close()
            self._begin(kind)
        if logprob is not None:
            self._waiting.append((self._read, logprob))
        return deltas + self._take(self._decoder.decode(self._tokenizer.decode_bytes([token])))

    def close(self, cut: bool = False) -> list[Delta]:
        """What was held back, as the part has ended; ``cut`` short by us, it may end within a character."""
        if self.stopped:
            return []
        deltas = self._take("" if cut else self._decoder.decode(b"", final=True))
        if not self.stopped:
            deltas += self._delta(self._stops.close(), ended=True)
        self._begin("text")
        return deltas

    def _take(self, text: str) -> list[Delta]:
        self._read += len(text)
        deltas = self._delta(self._stops.feed(text), ended=False)
        self.stopped = self.stopped or self._stops.hit
        return deltas

    def _delta(self, text: str, ended: bool) -> list[Delta]:
        self._given += len(text)
        logprobs = []
        while self._waiting and (ended or self._waiting[0][0] < self._given):
            logprobs.append(self._waiting.popleft()[1])
        return [Delta(self._kind, text, tuple(logprobs))] if text or logprobs else []
