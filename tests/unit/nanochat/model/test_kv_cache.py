"""The cache: whatever rows went through, the next logits are those of a full forward over what they hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.config.model import ModelConfig
from nanochat.model.cost import CACHE_SLACK_TOKENS
from nanochat.model.gpt import GPT
from nanochat.model.kv_cache import SLACK_TOKENS, KVCache
from tests.unit.nanochat.model.test_gpt import noisy, shape

TOKENS = 480
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model() -> GPT:
    """Windows of 128 tokens in all layers but the last; smear as strong as the rest."""
    model = noisy(shape(seq_len=512, window_pattern="S"))
    with torch.no_grad():
        model.smear_scale.fill_(1.0)
    return model


def texts(rows: int, length: int = TOKENS) -> torch.Tensor:
    return torch.randint(0, 301, (rows, length), generator=torch.Generator().manual_seed(7))


def row(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


@torch.no_grad()
def read(model: GPT, cache: KVCache, number: int, tokens: torch.Tensor, pieces: list[int]) -> torch.Tensor:
    """Logits after ``tokens``, read in pieces of these lengths and one of what remains."""
    last = torch.empty(0)
    for piece in tokens.split([*pieces, len(tokens) - sum(pieces)]):
        last = model.prefill(piece[None], cache, row(number))
    return last[0]


@torch.no_grad()
def expected(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
    return model(tokens[None])[0, -1]


@pytest.mark.parametrize("pieces", [[], [1], [100, 1, 1, 150], [300, 20], [50] * 9], ids=str)
def test_a_prompt_may_be_read_in_pieces(model: GPT, pieces: list[int]) -> None:
    cache, (tokens,) = model.new_cache(2, TOKENS), texts(1)
    logits = read(model, cache, 1, tokens, pieces)
    assert (logits - expected(model, tokens)).abs().max() <= TOLERANCE
    assert (cache.length(0), cache.length(1)) == (0, TOKENS)


def test_a_row_that_held_no_numbers_is_as_new_once_it_is_cleared(model: GPT) -> None:
    cache, tokens = model.new_cache(3, TOKENS), texts(3, 40)
    for number in range(3):
        read(model, cache, number, tokens[number], [])
    for tensor in (*cache.keys_RHSD, *cache.values_RHSD):
        tensor[1] = torch.nan
    cache.clear(1)
    assert [cache.length(number) for number in range(3)] == [40, 0, 40]
    with torch.no_grad():
        read(model, cache, 1, tokens[1, :10], [])
        logits = model.decode(tokens[:, 0], cache, row(0, 1, 2))
    full = torch.cat((tokens[1, :10], tokens[1, :1]))
    assert (logits[1] - expected(model, full)).abs().max() <= TOLERANCE


def test_rows_of_different_lengths_read_their_next_pieces_together(model: GPT) -> None:
    cache, tokens = model.new_cache(3, TOKENS), texts(3)
    held = (0, 250, 33)
    for number, length in enumerate(held):
        if length:
            read(model, cache, number, tokens[number, :length], [])
    piece = torch.stack([tokens[number, length : length + 150] for number, length in enumerate(held)])
    with torch.no_grad():
        logits = model.prefill(piece[[2, 0, 1]], cache, row(2, 0, 1))[[1, 2, 0]]
    for number, length in enumerate(held):
        full = expected(model, tokens[number, : length + 150])
        assert (logits[number] - full).abs().max() <= TOLERANCE


def test_a_layer_with_a_window_keeps_no_more_than_it_and_a_few(model: GPT) -> None:
    cache = model.new_cache(2, TOKENS)
    assert [keys.size(2) for keys in cache.keys_RHSD] == [192, 192, 192, 480]
    assert SLACK_TOKENS == CACHE_SLACK_TOKENS


def test_what_a_window_has_dropped_cannot_be_gone_back_to(model: GPT) -> None:
    cache, (tokens,) = model.new_cache(2, TOKENS), texts(1)
    read(model, cache, 0, tokens[:300], [])
    assert not cache.truncate(0, 235)
    assert not cache.copy(0, 1, 235)
    assert (cache.length(0), cache.length(1)) == (300, 0)
    assert cache.truncate(0, 236)
    assert not cache.truncate(0, 235)  # still: what is overwritten stays so
    assert cache.copy(0, 1, 236)
    for number in (0, 1):
        logits = read(model, cache, number, tokens[236:400], [1])
        assert (logits - expected(model, tokens[:400])).abs().max() <= TOLERANCE


def test_nothing_is_left_of_a_row_that_was_reset(model: GPT) -> None:
    cache, tokens = model.new_cache(1, TOKENS), texts(2)
    read(model, cache, 0, tokens[0], [])
    cache.reset(row(0))
    assert cache.length(0) == 0
    logits = read(model, cache, 0, tokens[1, :200], [])
    assert (logits - expected(model, tokens[1, :200])).abs().max() <= TOLERANCE


def test_a_copy_lives_on_without_its_source(model: GPT) -> None:
    cache, tokens = model.new_cache(2, TOKENS), texts(2)
    read(model, cache, 0, tokens[0, :90], [])
    assert cache.copy(0, 1, 60)
    read(model, cache, 0, tokens[1, :300], [])
    logits = read(model, cache, 1, tokens[1, :100], [])
    whole = torch.cat((tokens[0, :60], tokens[1, :100]))
    assert (logits - expected(model, whole)).abs().max() <= TOLERANCE


def test_what_rows_begin_with_in_common_is_known_whatever_became_of_them(model: GPT) -> None:
    cache, tokens = model.new_cache(3, TOKENS), texts(2)
    read(model, cache, 0, tokens[0, :90], [])
    assert cache.copy(0, 1, 60)
    assert (cache.common([0, 2]), cache.common([1]), cache.common([0, 1])) == (0, 60, 60)
    read(model, cache, 1, tokens[0, 60:70], [])
    assert cache.common([0, 1]) == 60  # still true, if no longer all
    assert cache.common([1, 0]) == 70
    assert cache.truncate(0, 30)
    assert cache.common([1, 0]) == 30
    cache.reset(row(1))
    read(model, cache, 1, tokens[1, :70], [])
    assert cache.common([1, 0]) == 0
    assert cache.copy(1, 0, 65)
    assert cache.common([1, 0]) == 65
    cache.clear(1)
    assert cache.common([1, 0]) == 0


SMALL = ModelConfig(
    depth=3, width=32, num_heads=2, num_kv_heads=1, vocab_size=64, seq_len=160, window_pattern="S"
)  # windows of 128, 128 and 160: what they drop is dropped early
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "read", "decode", "truncate", "copy", "reset"]),
        st.integers(0, 2), st.integers(0, 2), st.integers(0, 2**16),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


class History:
    """Three rows of one cache, and the tokens that each should hold."""

    def __init__(self, seed: int) -> None:
        self.model = noisy(SMALL, seed=1)
        torch.nn.init.ones_(self.model.smear_scale)
        self.cache, self.room = self.model.new_cache(3, 320), 320
        self.held: list[list[int]] = [[], [], []]
        self._random = torch.Generator().manual_seed(seed)

    def _some(self, count: int) -> list[int]:
        return torch.randint(0, 64, (count,), generator=self._random).tolist()

    def _equal(self, rows: list[int], logits: torch.Tensor) -> None:
        for number, mine in zip(rows, logits, strict=True):
            assert (mine - expected(self.model, torch.tensor(self.held[number]))).abs().max() <= TOLERANCE

    def read(self, mine: int, _: int, number: int) -> None:
        if new := self._some(min(1 + number % 190, self.room - len(self.held[mine]))):
            logits = self.model.prefill(torch.tensor([new]), self.cache, row(mine))
            self.held[mine] += new
            self._equal([mine], logits)

    def decode(self, *_: int) -> None:
        """In all rows that hold something."""
        if rows := [i for i in range(3) if 0 < len(self.held[i]) < self.room]:
            new = self._some(len(rows))
            logits = self.model.decode(torch.tensor(new), self.cache, torch.tensor(rows))
            for i, token in zip(rows, new, strict=True):
                self.held[i].append(token)
            self._equal(rows, logits)

    def truncate(self, mine: int, _: int, number: int) -> None:
        keep = self._less(mine, number)
        if self.cache.truncate(mine, keep):
            self.held[mine] = self.held[mine][:keep]

    def copy(self, mine: int, other: int, number: int) -> None:
        keep = self._less(mine, number)
        if self.cache.copy(mine, other, keep):
            self.held[other] = self.held[mine][:keep]

    def reset(self, mine: int, *_: int) -> None:
        self.cache.reset(row(mine))
        self.held[mine] = []

    def _less(self, mine: int, number: int) -> int:
        """Mostly a few tokens less, sometimes any number of them."""
        length = len(self.held[mine])
        return max(length - number % 80, 0) if number % 7 else number % (length + 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
@torch.no_grad()
def test_any_history_ends_in_the_logits_of_the_full_forward(steps: list[tuple[str, int, int, int]]) -> None:
    history = History(seed=len(steps))
    for what, *numbers in steps:
        getattr(history, what)(*numbers)
        lengths = [history.cache.length(i) for i in range(3)]
        assert lengths == [len(tokens) for tokens in history.held]
