"""Policy gradients: which tokens count, with what weight."""

from __future__ import annotations

import pytest
import torch

from nanochat.config.model import ModelConfig
from nanochat.engine.generate import Completion
from nanochat.model.gpt import GPT
from nanochat.train import rl
from nanochat.train.rl import ProblemStream, Rollouts, policy_gradient

SHAPE = ModelConfig(depth=1, width=32, num_heads=2, num_kv_heads=2, vocab_size=64, seq_len=32)


def model() -> GPT:
    torch.manual_seed(0)
    made = GPT(SHAPE)
    made.init_weights()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def rollouts(advantages: list[float]) -> Rollouts:
    prompts = [[1, 2, 3], [1, 2, 3], [4, 5]]
    completions = [
        Completion([10, 11, 12, 13], [1, 0, 0, 1], ended=True),
        Completion([20, 21], [1, 1], ended=True),
        Completion([30], [1], ended=False),
    ]
    return Rollouts(prompts, completions, advantages, [1.0, 0.0, 1.0])


def reference_gradient(made: GPT, batch: Rollouts) -> torch.Tensor:
    """-sum(A log p) over sampled tokens / all sampled tokens, one answer at a time, by autograd."""
    total = sum(sum(c.mask) for c in batch.completions)
    loss = torch.zeros(())
    for prompt, completion, advantage in zip(batch.prompts, batch.completions, batch.advantages, strict=True):
        ids = torch.tensor([prompt + completion.ids])
        log_p = made(ids[:, :-1]).log_softmax(-1)[0]
        for offset, (token, sampled) in enumerate(zip(completion.ids, completion.mask, strict=True)):
            if sampled:
                loss = loss - advantage * log_p[len(prompt) + offset - 1, token] / total
    return torch.autograd.grad(loss, made.head.weight)[0]


@pytest.mark.parametrize("budget", [8192, 6])
def test_gradient_equals_the_formula_and_forced_tokens_do_not_count(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rl, "MICRO_BATCH_TOKENS", budget)
    made, batch = model(), rollouts([0.5, -0.5, 0.25])
    result = policy_gradient(made, batch, world_size=1)
    assert torch.allclose(made.head.weight.grad, reference_gradient(made, batch), atol=1e-6)
    assert result.tokens == 5
    assert result.records["rl/reward"] == pytest.approx(2 / 3)


def test_groups_that_agree_teach_nothing() -> None:
    made = model()
    policy_gradient(made, rollouts([0.0, 0.0, 0.0]), world_size=1)
    assert made.head.weight.grad is None


def test_a_better_answer_becomes_likelier() -> None:
    made, batch = model(), rollouts([1.0, -1.0, 0.0])

    def log_probability(i: int) -> float:
        ids = torch.tensor([batch.prompts[i] + batch.completions[i].ids])
        with torch.no_grad():
            log_p = made(ids[:, :-1]).log_softmax(-1)[0]
        start = len(batch.prompts[i])
        sampled = zip(batch.completions[i].ids, batch.completions[i].mask, strict=True)
        return sum(float(log_p[start + k - 1, t]) for k, (t, m) in enumerate(sampled) if m)

    before = [log_probability(0), log_probability(1)]
    policy_gradient(made, batch, world_size=1)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    assert log_probability(0) > before[0]
    assert log_probability(1) < before[1]


def test_problem_stream_continues_where_its_state_was_taken() -> None:
    stream = ProblemStream(list(range(10)))  # type: ignore[arg-type]
    stream.take(3)
    state = stream.state_dict()
    expected = stream.take(4)
    again = ProblemStream(list(range(10)))  # type: ignore[arg-type]
    again.load_state_dict(state)
    assert again.take(4) == expected == [3, 4, 5, 6]
