"""A streamed answer: whole characters, kinds, stop strings, and log-probabilities with their text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.engine.answer import Answer
from nanochat.engine.request import Delta, TokenLogprob
from nanochat.engine.turn import split_parts
from tests.unit.nanochat.engine.scripted import NAMES, ByteTokenizer, script

TOKENIZER = ByteTokenizer()
SPECIALS = [f"<{name}>" for name in NAMES]


def logprob(token: int) -> TokenLogprob:
    return TokenLogprob(token, TOKENIZER.decode_bytes([token]), -1.0)


def streamed(ids: list[int], stop: tuple[str, ...] = ()) -> list[Delta]:
    answer = Answer(TOKENIZER, stop)
    deltas = []
    for token in ids:
        deltas += answer.read(token, logprob(token))
        if answer.stopped:
            break
    return deltas + answer.close()


def text_of(deltas: list[Delta], kind: str = "text") -> str:
    return "".join(delta.text for delta in deltas if delta.kind == kind)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=8) | st.sampled_from(["👩‍👩‍👧‍👦", "日本", "👍🏽", *SPECIALS]), max_size=8))
def test_the_stream_says_what_the_whole_answer_says(pieces: list[str]) -> None:
    ids = script(*pieces)
    deltas = streamed(ids)
    for kind in ("text", "python", "python_output"):
        whole = "".join(text for part, text in split_parts(TOKENIZER, ids) if part == kind)
        assert text_of(deltas, kind) == whole
    lost = "".join(pieces).count("\N{REPLACEMENT CHARACTER}")
    assert "".join(delta.text for delta in deltas).count("\N{REPLACEMENT CHARACTER}") == lost
    ordinary = [token for token in ids if token < 256]
    assert [entry.token for delta in deltas for entry in delta.logprobs] == ordinary


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_replaced_as_in_the_whole(data: bytes) -> None:
    assert text_of(streamed(list(data))) == data.decode(errors="replace")


@settings(max_examples=200, deadline=None)
@given(st.text("ab👍é", max_size=20), st.text("ab👍é", min_size=1, max_size=4))
def test_text_and_logprobs_end_before_a_stop_string(text: str, stop: str) -> None:
    deltas = streamed(script(text), (stop,))
    before = text.partition(stop)[0]
    assert text_of(deltas) == before
    assert [entry.token for delta in deltas for entry in delta.logprobs] == list(before.encode())


def test_a_stop_string_counts_within_one_part_of_text_only() -> None:
    ids = script("x E", "<python_start>", "1 END", "<python_end>", "ND END y")
    deltas = streamed(ids, ("END",))
    assert next((delta.kind, delta.text) for delta in deltas if delta.kind == "python") == ("python", "1")
    assert text_of(deltas, "python") == "1 END"
    assert text_of(deltas) == "x END "


def test_a_character_that_we_cut_in_two_is_left_out() -> None:
    answer = Answer(TOKENIZER)
    deltas = [delta for token in script("a👍")[:-1] for delta in answer.read(token, logprob(token))]
    deltas += answer.close(cut=True)
    assert text_of(deltas) == "a"
    assert sum(len(delta.logprobs) for delta in deltas) == 4
