"""Continuous batching of a real model: what a row says does not depend on what happens beside it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.engine.batch import Batch
from nanochat.engine.calculator import calculate
from nanochat.engine.generate import Engine
from nanochat.engine.request import Event, Failed, Finish, Request
from nanochat.engine.row import Row
from nanochat.engine.sampling import Sampling
from nanochat.model.gpt import GPT
from tests.unit.nanochat.engine.scripted import ByteTokenizer
from tests.unit.nanochat.engine.tiny import tiny_gpt

TOKENIZER = ByteTokenizer()
CONTEXT = 256  # with windows of 128
ALIKE = torch.randint(0, 256, (CONTEXT,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture(scope="module")
def gpt() -> GPT:
    model = tiny_gpt(CONTEXT)
    assert [model.config.window(layer) for layer in range(3)] == [128, 128, 256]
    return model


@dataclass
class Visit:
    """A request, the step at which it comes, and the number of events after which it is cancelled."""

    shared: int
    own: int
    max_tokens: int
    arrives: int
    leaves: int | None
    sampling: Sampling = field(default_factory=Sampling)

    def row(self, number: int, heard: list[Event]) -> Row:
        prompt = ALIKE[: self.shared] + [(number * 41 + i * i) % 256 for i in range(self.own)]
        request = Request(tuple(prompt), self.max_tokens, self.sampling, seed=number)

        def listen(event: Event) -> None:
            heard.append(event)
            row.cancelled = row.cancelled or len(heard) == self.leaves

        row = Row(request, listen, TOKENIZER, calculate, CONTEXT)
        return row


VISITS = st.builds(
    Visit,
    shared=st.sampled_from([0, 1, 20, 140]),
    own=st.integers(1, 90),
    max_tokens=st.integers(1, 25),
    arrives=st.integers(0, 30),
    leaves=st.none() | st.integers(1, 9),
    sampling=st.sampled_from([Sampling(), Sampling(), Sampling(1.0, top_k=30), Sampling(0.7, top_p=0.9)]),
)


def play(model: GPT, visits: list[Visit], slots: int, chunk: int) -> list[tuple[Row, list[Event]]]:
    """Let the requests come and go; the rows and what was heard of each."""
    batch = Batch(model, slots, chunk)
    heard: list[list[Event]] = [[] for _ in visits]
    rows = [visit.row(number, heard[number]) for number, visit in enumerate(visits)]
    coming = sorted(range(len(visits)), key=lambda number: visits[number].arrives)
    waiting: deque[Row] = deque()
    for step in range(2000):
        while coming and visits[coming[0]].arrives <= step:
            waiting.append(rows[coming.pop(0)])
        batch.end(lambda row: row.reason)
        with torch.no_grad():
            batch.step(lambda: waiting.popleft() if waiting else None)
        holds_its_invariants(batch, slots)
        if not coming and not waiting and not batch.rows:
            return list(zip(rows, heard, strict=True))
    raise AssertionError("it does not end")


def holds_its_invariants(batch: Batch, slots: int) -> None:
    assert sorted([*batch.slots.free, *batch.rows]) == list(range(slots))
    assert [batch.slots.cache.length(slot) for slot in range(slots)] == [
        len(tokens) for tokens in batch.slots.tokens
    ]
    for slot, row in batch.rows.items():
        said = [*row.request.prompt, *row.turn.ids]
        assert batch.slots.tokens[slot] + row.unread == said


@settings(max_examples=25, deadline=None)
@given(st.lists(VISITS, min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 80))
def test_greedy_rows_are_the_argmax_of_the_whole_forward_pass_whatever_comes_and_goes(
    gpt: GPT, visits: list[Visit], slots: int, chunk: int
) -> None:
    for visit, (row, heard) in zip(visits, play(gpt, visits, slots, chunk), strict=True):
        assert isinstance(heard[-1], Finish)
        assert not any(isinstance(event, Finish | Failed) for event in heard[:-1])
        assert heard[-1].usage.completion_tokens == len(row.turn.ids) <= visit.max_tokens
        if visit.leaves is None:
            assert row.turn.ended or len(row.turn.ids) == visit.max_tokens or heard[-1].reason == "stop"
        else:
            forced = 0 in row.turn.mask  # several events at once
            assert heard[-1].reason != "cancelled" or len(heard) == visit.leaves + 1 or forced
        if visit.sampling.temperature == 0 and row.turn.ids:
            is_greedy(gpt, list(row.request.prompt), row)


def is_greedy(model: GPT, prompt: list[int], row: Row) -> None:
    with torch.no_grad():
        logits_TV = model(torch.tensor([prompt + row.turn.ids]))[0]
    likeliest = logits_TV.argmax(dim=-1)[len(prompt) - 1 : -1].tolist()
    for said, chosen, expected in zip(row.turn.ids, row.turn.mask, likeliest, strict=True):
        assert not chosen or said == expected


@settings(max_examples=15, deadline=None)
@given(st.lists(VISITS, min_size=2, max_size=6), st.integers(2, 4), st.integers(1, 80))
def test_a_sampled_row_says_what_it_says_alone(gpt: GPT, visits: list[Visit], slots: int, chunk: int) -> None:
    together = play(gpt, visits, slots, chunk)
    for number, (visit, (row, _)) in enumerate(zip(visits, together, strict=True)):
        if visit.leaves is None:
            alone = visit.row(number, [])
            batch = Batch(gpt, 1, CONTEXT)
            rows = [alone]
            with torch.no_grad():
                while rows or batch.rows:
                    batch.step(lambda rows=rows: rows.pop() if rows else None)
            assert row.turn.ids == alone.turn.ids


def test_prompts_that_begin_alike_are_not_read_again_and_answered_the_same(gpt: GPT) -> None:
    visits = [Visit(120, 5 + i, 10, arrives=3 * i, leaves=None) for i in range(6)]
    answers = play(gpt, visits, slots=3, chunk=64)
    cached = [heard[-1].usage.cached_tokens for _, heard in answers]
    assert cached[0] == 0
    assert min(cached[1:]) >= 120
    for row, _ in answers:
        is_greedy(gpt, list(row.request.prompt), row)


def test_the_turns_of_a_conversation_continue_their_row(gpt: GPT) -> None:
    batch, prompt, read = Batch(gpt, 2, 32), ALIKE[:40], []
    for _ in range(4):
        row = Row(Request(tuple(prompt), 12), lambda event: None, TOKENIZER, calculate, CONTEXT)
        rows = [row]
        with torch.no_grad():
            while rows or batch.rows:
                batch.step(lambda rows=rows: rows.pop() if rows else None)
        is_greedy(gpt, prompt, row)
        read.append(len(prompt) - row.cached_tokens)
        prompt = prompt + row.turn.ids + [7, 8, 9]
    assert read == [40, 4, 4, 4]  # the last token of an answer is not read before the next turn


@pytest.mark.parametrize("penalty", [1.0, 1.3, 1000.0])
def test_greedy_answers_are_those_of_the_engine(gpt: GPT, penalty: float) -> None:
    sampling = Sampling(repetition_penalty=penalty)
    visits = [Visit(0, 9 + 7 * i, 20, arrives=i // 2, leaves=None, sampling=sampling) for i in range(6)]
    prompts = [list(visit.row(number, []).request.prompt) for number, visit in enumerate(visits)]
    completions = Engine(gpt, TOKENIZER).generate(prompts, max_tokens=20, sampling=sampling)
    assert [row.turn.ids for row, _ in play(gpt, visits, 4, 16)] == [each.ids for each in completions]
    if penalty == 1000.0:
        for prompt, each in zip(prompts, completions, strict=True):
            ordinary = [token for token in each.ids if token < 256]
            assert len({*prompt, *ordinary}) == len(set(prompt)) + len(ordinary)


def test_a_nan_does_not_poison_the_slot_for_the_next_request(gpt: GPT) -> None:
    """What a row stored stays where it was, and even with a weight of 0 a NaN would be added to others."""
    batch = Batch(gpt, 2, 16)
    assert batch.slots.take(ALIKE[:20]) == (0, 0)
    assert batch.slots.take(ALIKE[:30]) == (1, 0)
    cache = batch.slots.cache
    for tensor in (*cache.keys_RHSD, *cache.values_RHSD):
        tensor[0] = torch.nan
    batch.slots.release(0, forget=True)
    batch.slots.release(1)
    assert all(tensor.isfinite().all() for tensor in (*cache.keys_RHSD, *cache.values_RHSD))
    assert cache.length(0) == 0
