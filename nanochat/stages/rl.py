"""Reinforcement learning on verifiable rewards: the model samples answers, right ones become likelier."""

from __future__ import annotations

from pydantic import Field

from nanochat.config.base import Config, Dtype, runtime_field
from nanochat.config.optim import OptimConfig, Schedule
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class RLConfig(Config):
    """On-policy REINFORCE with a group baseline."""

    tasks: dict[str, int] = Field(
        {"arithmetic/hard": 16}, min_length=1, description="task -> problems a step, over all ranks"
    )
    eval_task: str = Field("arithmetic/hard", description="task whose held-out problems are watched")
    steps: int = Field(ge=1, description="optimizer steps, one batch of samples each")
    samples: int = Field(16, ge=2, description="answers sampled for each problem; their mean is the baseline")
    max_new_tokens: int = Field(256, ge=1, description="longest answer in tokens")
    temperature: float = Field(1.0, gt=0, description="sampling temperature")
    top_k: int = Field(50, ge=0, description="sample among the k likeliest tokens; 0: all")
    eval_every: int = Field(60, ge=1, description="steps between evaluations on held-out problems")
    eval_problems: int = Field(200, ge=1, description="held-out problems of each evaluation, greedy")
    optim: OptimConfig = OptimConfig(
        schedule=Schedule(warmup_steps=0, warmdown_share=1.0, final_lr_share=0.0)
    )
    dtype: Dtype = Field("auto", description="compute dtype; auto asks the hardware")
    seed: int = Field(42, ge=0, description="of problems and sampling")
    checkpoint_every: int = runtime_field(20, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = runtime_field(2, ge=2, description="newest checkpoints kept, besides the best")
    log_every: int = runtime_field(1, ge=1, description="steps between records and log lines")

    def task_modules(self) -> list[str]:
        """Modules of ``nanochat.tasks`` that these tasks depend on, for the fingerprint."""
        from nanochat.tasks.mixture import task_modules

        return sorted(task_modules([*self.tasks, self.eval_task]))


def run(ctx: StageContext, config: RLConfig) -> Summary:
    """Improve ``model`` on the task. Inputs: ``model``, ``shards`` (task data)."""
    from nanochat.train.rl import train_rl

    return train_rl(ctx, config)


if __name__ == "__main__":
    stage_main("rl", RLConfig, run)
