"""Reinforcement learning on verifiable rewards: REINFORCE with a group baseline, strictly on-policy.

Each step samples ``samples`` answers to each of a few problems and grades them 0 or 1. An answer's
advantage is its reward minus the mean of its group (Shao et al., 2024, without the division by the
deviation: Liu et al., 2025); the loss is normalised over all sampled tokens of the step (Yu et al.,
2025). No reference model and no ratio clipping: every sample comes from the weights it updates. The end
token that the model sampled is part of the trajectory, so stopping is trained too; forced tool output
is not. Evaluation is greedy, on held-out problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nanochat.engine.generate import Completion, Engine
from nanochat.engine.sampling import Sampling
from nanochat.model.gpt import GPT
from nanochat.optim.build import build_optimizer
from nanochat.optim.loss_scale import LossScale
from nanochat.runtime import StageContext, Summary
from nanochat.tasks.mixture import load_task
from nanochat.tasks.task import Example, Task
from nanochat.tokenizer.chat import render_for_completion
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.train.gradients import backward
from nanochat.train.loop import Pace, Trainer
from nanochat.train.model_folder import load_model, save_model
from nanochat.train.setup import all_sum, process_group
from nanochat.train.step_log import StepResult

if TYPE_CHECKING:
    from nanochat.stages.rl import RLConfig

MICRO_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Problem:
    """An example and the task that grades it."""

    task: Task
    example: Example


@dataclass
class ProblemStream:
    """The train problems in order, each used once; ``position`` is the exact state."""

    problems: list[Problem]
    position: int = 0

    def take(self, count: int) -> list[Problem]:
        """The next ``count`` problems."""
        start, self.position = self.position, self.position + count
        return self.problems[start : self.position]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able position."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.position = state["position"]


@dataclass
class Rollouts:
    """Sampled answers of one step: prompt ids, completion and advantage of each."""

    prompts: list[list[int]] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    advantages: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


def train_rl(ctx: StageContext, config: RLConfig) -> Summary:
    """Improve ``model`` by sampling from it; see the module's docstring for the method."""
    model = load_model(ctx.inputs["model"], config.dtype, config.seed)
    tokenizer_file = ctx.inputs["model"] / "tokenizer.json"
    tokenizer = Tokenizer.load(tokenizer_file)
    task, engine = load_task(config.eval_task, ctx.inputs["shards"]), Engine(model, tokenizer)
    held_out = task.examples("test", config.eval_problems, config.seed)
    stream = ProblemStream(_problems(config, ctx.inputs["shards"]))

    def gradients(step: int) -> StepResult:
        chosen = stream.take(sum(config.tasks.values()))[ctx.rank :: ctx.world_size]
        rollouts = sample(engine, tokenizer, chosen, config, seed=step * ctx.world_size + ctx.rank)
        return policy_gradient(model, rollouts, ctx.world_size, optimizer.loss_scale)

    def accuracy() -> float:
        mine = held_out[ctx.rank :: ctx.world_size]
        prompts = [render_for_completion(tokenizer, example.conversation) for example in mine]
        answers = engine.generate(prompts, max_tokens=config.max_new_tokens)
        right = sum(
            task.grade(example, answer).correct for example, answer in zip(mine, answers, strict=True)
        )
        return all_sum(right, model.device) / len(held_out)

    pace = Pace(
        config.steps, config.eval_every, config.checkpoint_every, config.log_every, config.keep_checkpoints
    )
    with process_group(ctx, model.device):
        optimizer = build_optimizer(model, config.optim)
        curve = Trainer(
            ctx, "rl", model, optimizer, stream, pace, "eval/accuracy", gradients, accuracy, ahead=False
        ).run()
    if not ctx.is_main:
        return Summary()
    save_model(model, ctx.output, tokenizer_file, curve, {"stage": "rl", "steps": config.steps})
    metrics = {"accuracy": curve.val[-1][1], "accuracy_before": curve.val[0][1], "steps": config.steps}
    return Summary(metrics=metrics, key_metric="accuracy")


def _problems(config: RLConfig, shards: Path) -> list[Problem]:
    """For every step the stated number of train problems of each task, in the order of their names."""
    drawn: dict[str, list[Problem]] = {}
    for name, count in sorted(config.tasks.items()):
        task = load_task(name, shards)
        drawn[name] = [
            Problem(task, e) for e in task.examples("train", config.steps * count, config.seed + 1)
        ]
    problems = []
    for step in range(config.steps):
        for name, count in sorted(config.tasks.items()):
            problems += drawn[name][step * count : (step + 1) * count]
    return problems


def sample(
    engine: Engine, tokenizer: Tokenizer, problems: Sequence[Problem], config: RLConfig, seed: int
) -> Rollouts:
    """``config.samples`` answers to each problem, graded; equal (weights, seed) give equal answers."""
    prompts = [render_for_completion(tokenizer, problem.example.conversation) for problem in problems]
    repeated = [prompt for prompt in prompts for _ in range(config.samples)]
    base = (config.seed * 1_000_003 + seed) * 1_000_003
    completions = engine.generate(
        repeated,
        max_tokens=config.max_new_tokens,
        sampling=Sampling(config.temperature, config.top_k or None),
        seeds=[base + number for number in range(len(repeated))],
    )
    out = Rollouts(repeated, completions)
    for number, problem in enumerate(problems):
        group = completions[number * config.samples : (number + 1) * config.samples]
        rewards = [float(problem.task.grade(problem.example, answer).correct) for answer in group]
        mean = sum(rewards) / len(rewards)
        out.rewards += rewards
        out.advantages += [reward - mean for reward in rewards]
    return out


def policy_gradient(
    model: GPT, rollouts: Rollouts, world_size: int, loss_scale: LossScale | None = None
) -> StepResult:
    """Gradients of -sum(advantage x log p(token)) / sampled tokens; answers of no advantage are skipped."""
    sampled = sum(sum(completion.mask) for completion in rollouts.completions)
    total = max(1.0, all_sum(sampled, model.device))
    useful = [i for i, advantage in enumerate(rollouts.advantages) if advantage != 0]
    loss_sum = 0.0
    for batch in _micro_batches(rollouts, useful):
        inputs, targets, weights = (tensor.to(model.device) for tensor in _tensors(rollouts, batch))
        loss = backward(model, inputs, targets, weights * (world_size / total), loss_scale)
        loss_sum += float(loss) / world_size
    count = all_sum(len(rollouts.rewards), model.device)
    records = {
        "rl/reward": all_sum(sum(rollouts.rewards), model.device) / count,
        "rl/answer_tokens": total / count,
    }
    return StepResult(all_sum(loss_sum, model.device), int(total), records)


def _micro_batches(rollouts: Rollouts, chosen: list[int]) -> list[list[int]]:
    """Answers of similar length together, at most ``MICRO_BATCH_TOKENS`` with padding."""

    def length(i: int) -> int:
        return len(rollouts.prompts[i]) + len(rollouts.completions[i].ids)

    batches: list[list[int]] = []
    for i in sorted(chosen, key=length):
        if batches and (len(batches[-1]) + 1) * length(i) <= MICRO_BATCH_TOKENS:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _tensors(rollouts: Rollouts, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """inputs, targets (-1 where not sampled) and advantages, each (B, T) with T the longest minus 1."""
    longest = max(len(rollouts.prompts[i]) + len(rollouts.completions[i].ids) for i in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.int64)
    targets = torch.full((len(batch), longest), -1, dtype=torch.int64)
    weights = torch.zeros(len(batch), longest)
    for row, i in enumerate(batch):
        prompt, completion = rollouts.prompts[i], rollouts.completions[i]
        end = len(prompt) + len(completion.ids)
        ids[row, :end] = torch.tensor(prompt + completion.ids)
        mask = torch.tensor(completion.mask, dtype=torch.bool)
        answer = torch.tensor(completion.ids)
        targets[row, len(prompt) : end] = torch.where(mask, answer, -1)
        weights[row, len(prompt) : end] = mask * rollouts.advantages[i]
    return ids[:, :-1], targets[:, 1:], weights[:, 1:]
