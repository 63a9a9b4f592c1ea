"""The fast model says what the naive full forward says, in every format, in any company."""

from __future__ import annotations

import functools
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from artifacts.errors import UsageError
from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.engine import matrices
from nanochat.engine.inference_model import InferenceModel
from nanochat.engine.matrices import WeightFormat, best_format, formats_of
from nanochat.model.gpt import GPT
from tests.unit.nanochat.model.test_gpt import noisy, shape

CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "current": {}, "hf": ARCHITECTURES["hf"], "one layer": {"depth": 1}, "no smear": {"smear": False},
    "no backout": {"backout": False}, "no scalars": {"residual_scalars": False},
    "windows": {"window_pattern": "S", "seq_len": 512}, "one head": {"num_heads": 1, "num_kv_heads": 1},
}  # fmt: skip
formats = pytest.mark.parametrize("kept_as", formats_of(CPU))


def texts(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 301, (rows, length), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_logits_are_those_of_the_full_forward(changes: dict[str, Any]) -> None:
    """Ragged rows, read in one piece and in two, then decoded together beyond every window."""
    model, tokens, held = noisy(shape(**changes)), texts(3, 330), [30, 1, 190]
    fast, rows = InferenceModel(model, "float32"), torch.tensor([2, 0, 3])
    cache = fast.new_cache(4, 330)
    with torch.no_grad():
        full = model(tokens)
    for i, length in enumerate(held):
        logits = fast.prefill(tokens[i, None, :length], cache, rows[i, None])
        assert (logits[0] - full[i, length - 1]).abs().max() <= 1e-4
    for count in (40, *[1] * 100):
        new = torch.stack([tokens[i, length : length + count] for i, length in enumerate(held)])
        logits = fast.prefill(new, cache, rows) if count > 1 else fast.decode(new[:, 0], cache, rows)
        held = [length + count for length in held]
        for i, length in enumerate(held):
            assert (logits[i] - full[i, length - 1]).abs().max() <= 1e-4


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_rows_that_begin_alike_say_what_the_full_forward_says(changes: dict[str, Any]) -> None:
    """Copies of one row, and one read by itself, go on with their own tokens, beyond every window."""
    model, tokens = noisy(shape(**changes)), texts(3, 330)
    tokens[:, :100] = tokens[0, :100]
    fast, rows, held = InferenceModel(model, "float32"), torch.tensor([2, 0, 3]), [100, 105, 117]
    cache = fast.new_cache(4, 330)
    with torch.no_grad():
        full = model(tokens)
    fast.prefill(tokens[:1, :100], cache, rows[:1])
    assert cache.copy(2, 0, 100)
    fast.prefill(tokens[1:2, 100:105], cache, rows[1:2])
    fast.prefill(tokens[2:, :117], cache, rows[2:])
    for _ in range(200):
        new = torch.stack([tokens[i, length] for i, length in enumerate(held)])
        logits = fast.decode(new, cache, rows)
        assert cache.common(rows.tolist()) == 100
        for i, length in enumerate(held):
            assert (logits[i] - full[i, length]).abs().max() <= 1e-4
        held = [length + 1 for length in held]


def test_a_common_beginning_is_read_of_one_row_alone() -> None:
    model, tokens = noisy(shape()), texts(1, 90)
    fast = InferenceModel(model, "float32")
    cache = fast.new_cache(2, 120)
    fast.prefill(tokens, cache, torch.tensor([0]))
    assert cache.copy(0, 1, 90)
    for tensor in (*cache.keys_RHSD, *cache.values_RHSD):
        tensor[1, :, :90] = torch.nan
    logits = fast.decode(torch.tensor([3, 3]), cache, torch.tensor([0, 1]))
    assert (logits[0] - logits[1]).abs().max() <= 1e-5
    assert cache.truncate(1, 63)  # too short for products of its own
    assert fast.decode(torch.tensor([3, 3]), cache, torch.tensor([0, 1]))[1].isnan().all()


def naive(model: GPT, prompt: list[int], count: int) -> list[int]:
    """Greedy, everything read anew for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_equals_the_naive_forward_in_any_company() -> None:
    """Rows come and go at random between steps, prompts in pieces, each row as far as it wants to."""
    model, random = noisy(shape(seq_len=512, window_pattern="S")), Random(3)
    fast = InferenceModel(model, "float32")
    cache = fast.new_cache(4, 300)
    waiting = [[random.randrange(301) for _ in range(random.choice([1, 3, 40, 200]))] for _ in range(9)]
    expected = {number: naive(model, prompt, 12) for number, prompt in enumerate(waiting)}
    running: dict[int, int] = {}
    said: dict[int, list[int]] = {}
    while running or len(said) < len(waiting):
        free = [row for row in range(4) if row not in running]
        if free and len(said) < len(waiting) and random.random() < 0.5:
            row, number = random.choice(free), len(said)
            cache.reset(torch.tensor([row]))
            for piece in torch.tensor([waiting[number]]).split(random.choice([64, 300]), dim=1):
                logits = fast.prefill(piece, cache, torch.tensor([row]))
            running[row], said[number] = number, [int(logits[0].argmax())]
        if running:
            rows = random.sample(list(running), len(running))
            last = torch.tensor([said[running[row]][-1] for row in rows])
            for row, logits in zip(rows, fast.decode(last, cache, torch.tensor(rows)), strict=True):
                said[running[row]].append(int(logits.argmax()))
                if len(said[running[row]]) == 12:
                    del running[row]
    assert said == expected


@functools.cache
def trained() -> tuple[GPT, torch.Tensor]:
    """A model after a minute's worth of learning to count in steps, and texts that it has not seen."""
    config = ModelConfig(depth=3, width=64, num_heads=2, num_kv_heads=2, vocab_size=128, seq_len=64)
    model = GPT(config)
    random = torch.Generator().manual_seed(5)
    model.init_weights(random)

    def counted(rows: int) -> torch.Tensor:
        """Each row a start, a step, and a noisy walk; so the next token is likely but never certain."""
        start, step = (torch.randint(1, limit, (rows, 1), generator=random) for limit in (128, 9))
        walk = (start + step * torch.arange(65)) % 128
        return torch.where(torch.rand(walk.shape, generator=random) < 0.05, start, walk)

    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(150):
        tokens = counted(16)
        optimizer.zero_grad()
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
    return model.eval(), counted(24)[:, :-1]


@formats
def test_a_trained_model_says_the_same_in_every_format(kept_as: WeightFormat) -> None:
    model, tokens = trained()
    with torch.no_grad():
        expected = model(tokens).argmax(-1)
    fast = InferenceModel(model, kept_as)
    cache, rows = fast.new_cache(len(tokens), 64), torch.arange(len(tokens))
    said = [fast.decode(tokens[:, at], cache, rows).argmax(-1) for at in range(64)]
    agreed = (torch.stack(said, 1) == expected).float().mean()
    assert agreed >= (1.0 if kept_as == "float32" else 0.95)
    assert (expected[:, 20:-1] == tokens[:, 21:]).float().mean() > 0.5, "it has learned nothing"


@formats
def test_matrices_are_kept_in_the_format_alone(kept_as: WeightFormat) -> None:
    fast = InferenceModel(trained()[0], kept_as)
    assert fast.kept_as == kept_as
    matrices = 3 * 12 * 64 * 64 + 128 * 64 + 24 + 2 * 12 * 2
    assert fast.bytes_a_step == matrices * {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}[kept_as]


def test_the_default_is_a_format_of_the_machine() -> None:
    assert InferenceModel(trained()[0]).kept_as == best_format(CPU)
    assert best_format(CPU) in formats_of(CPU)


def test_the_model_it_was_made_from_is_left_alone() -> None:
    model, tokens = trained()
    with torch.no_grad():
        before = model(tokens[:1])
        fast = InferenceModel(model, "float32")
        fast.prefill(tokens[:1], fast.new_cache(1, 64), torch.tensor([0]))
        assert torch.equal(model(tokens[:1]), before)
    assert F.cross_entropy(before[0, :-1], tokens[0, 1:]) < 4.0


def test_a_format_that_the_machine_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "formats_of", lambda device: ("float32", "bfloat16"))
    with pytest.raises(UsageError, match=r"int8 on cpu .*float32, bfloat16"):
        InferenceModel(trained()[0], "int8")
