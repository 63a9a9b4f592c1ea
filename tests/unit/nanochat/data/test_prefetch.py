"""Prefetching changes nothing but the time: the same batches and states, errors and forks included."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.data.loader import Batch, ConversationLoader
from nanochat.data.prefetch import AHEAD, Prefetcher, Staging

CPU = torch.device("cpu")
ROWS = [([0, *range(1, 2 + n % 40)], [0] + [1] * (1 + n % 40)) for n in range(90)]


def make(seed: int = 0) -> ConversationLoader:
    return ConversationLoader(ROWS, 3, 16, pad=0, seed=seed, buffer=20)


def assert_same(batch: Batch, expected: Batch) -> None:
    assert torch.equal(batch.inputs_BT, expected.inputs_BT)
    assert torch.equal(batch.targets_BT, expected.targets_BT)
    assert (batch.epoch, batch.supervised) == (expected.epoch, expected.supervised)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.criterion("T20")
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["new", "same", "close"])), max_size=5))
def test_batches_and_states_are_those_of_the_plain_loader_at_any_cut(cuts) -> None:
    plain, ahead = make(), Prefetcher(make(), CPU)
    for batches, then in [*cuts, (12, "close")]:
        for _ in range(batches):
            assert_same(ahead.next(), plain.next())
            assert ahead.state_dict() == plain.state_dict()
        assert ahead.ledger() == plain.ledger()
        state = json.loads(json.dumps(ahead.state_dict()))
        if then == "new":
            ahead.close()
            ahead = Prefetcher(make(), CPU)
        if then == "close":
            ahead.close()
        else:
            ahead.load_state_dict(state)
    assert not threads()


def test_a_state_from_elsewhere_replaces_what_was_made_ahead_and_a_wrong_one_does_not() -> None:
    plain, ahead = make(), Prefetcher(make(), CPU)
    start = plain.state_dict()
    first = plain.next()
    assert_same(ahead.next(), first)
    with pytest.raises(DataError, match="seed = 1"):
        ahead.load_state_dict(make(seed=1).state_dict())
    assert_same(ahead.next(), plain.next())
    ahead.load_state_dict(start)
    assert_same(ahead.next(), first)
    ahead.close()


def test_an_error_is_raised_by_the_next_it_concerns_and_costs_no_batch(monkeypatch) -> None:
    plain, loader = make(), make()
    ahead, read, calls = Prefetcher(loader, CPU), loader.tokens, []

    def failing(rows: list) -> tuple:
        calls.append(rows)
        if len(calls) == 4:
            raise DataError("shard_00007 is gone")
        return read(rows)

    monkeypatch.setattr(loader, "tokens", failing)
    for _ in range(3):
        assert_same(ahead.next(), plain.next())
    with pytest.raises(DataError, match="shard_00007"):
        ahead.next()
    assert ahead.state_dict() == plain.state_dict()
    for _ in range(5):
        assert_same(ahead.next(), plain.next())
    ahead.close()


def test_a_forked_child_goes_on_by_itself() -> None:
    plain, ahead = make(), Prefetcher(make(), CPU)
    assert_same(ahead.next(), plain.next())
    child = os.fork()
    if not child:
        signal.alarm(20)  # rather than waiting for ever for a thread that the child does not have
        try:
            for _ in range(4):
                assert_same(ahead.next(), plain.next())
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_same(ahead.next(), plain.next())
    ahead.close()


class LazyEvent:
    """An event of a stream that works only when it is waited for."""

    def __init__(self, stream: list[Callable[[], object]]) -> None:
        self._stream, self._recorded = stream, []

    def record(self) -> None:
        self._recorded += self._stream
        self._stream.clear()

    def synchronize(self) -> None:
        while self._recorded:
            self._recorded.pop(0)()


class LazyStaging(Staging):
    """Its copies happen as late as its events allow."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.events: list[LazyEvent] = []
        self._stream: list[Callable[[], object]] = []
        super().__init__(shape, CPU, new_event=self._new_event, pinned=False)

    def _new_event(self) -> LazyEvent:
        self.events.append(LazyEvent(self._stream))
        return self.events[-1]

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        copied = torch.full_like(tensor, -7)
        self._stream.append(lambda: copied.copy_(tensor))
        return copied


def test_a_buffer_is_not_written_while_its_copy_is_under_way() -> None:
    loader, plain = make(), make()
    staging = LazyStaging(loader.shape)
    ahead = Prefetcher(loader, CPU, staging)
    batches = [ahead.next() for _ in range(9)]
    ahead.close()
    assert (batches[-1].inputs_BT == -7).all()
    assert len(staging.events) == AHEAD
    for event in staging.events:
        event.synchronize()
    for batch in batches:
        assert_same(batch, plain.next())
