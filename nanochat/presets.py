"""The presets: a name, what it is for, and the values it sets on top of the derived rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """``values``: dials without a dot, stage fields with one; see ``config/pipeline.py``."""

    name: str
    about: str
    values: dict[str, Any] = field(default_factory=dict)


_TINY_MIXTURE = {"arithmetic/easy": 60, "docs": 30, "identity": 10, "spelling": 20}
_TINY_VAL = {"arithmetic/easy": 8, "docs": 8}

TINY = Preset(
    "tiny",
    "every stage for real in about a minute on 2 cores; learns nothing worth chatting with",
    {
        "depth": 2, "aspect_ratio": 16, "head_dim": 16, "seq_len": 128, "vocab_size": 512, "micro_batch": 4,
        "dtype": "float32", "overlap": True,
        "shards.packages": ["json", "textwrap", "string", "random"], "shards.shard_bytes": 60_000,
        "base.steps": 6, "base.batch_tokens": 512, "base.val_tokens": 2048, "base.eval_every": 3,
        "base.optim.lr_scale": 0.3,
        "mid.mixture": _TINY_MIXTURE, "mid.val_mixture": _TINY_VAL, "mid.steps": 4, "mid.batch_tokens": 512,
        "sft.mixture": _TINY_MIXTURE, "sft.val_mixture": _TINY_VAL, "sft.steps": 4, "sft.batch_tokens": 512,
        "rl.steps": 2, "rl.tasks": {"arithmetic/hard": 2}, "rl.samples": 2, "rl.max_new_tokens": 16,
        "rl.eval_every": 2, "rl.eval_problems": 4,
        "evaluate.num_problems": 4, "evaluate.max_new_tokens": 12,
    },
)  # fmt: skip

DEMO = Preset(
    "demo",
    "a chat model that uses its calculator, in minutes on 2 cores",
    {
        "depth": 4, "aspect_ratio": 32, "head_dim": 32, "seq_len": 256, "vocab_size": 2048, "micro_batch": 8,
        "window_pattern": "L",
        "base.steps": 330, "base.batch_tokens": 2048, "base.val_tokens": 32_768, "base.eval_every": 110,
        "base.optim.lr_scale": 0.8, "base.optim.weight_decay": 0.05,
        "mid.mixture": {"arithmetic/easy": 5000, "arithmetic/hard": 500, "docs": 13_000, "identity": 300,
                        "smalltalk": 300, "spelling": 1000},
        "mid.val_mixture": {"arithmetic/easy": 200, "docs": 200, "spelling": 50},
        "mid.steps": 330, "mid.batch_tokens": 2048, "mid.eval_every": 110, "mid.optim.lr_scale": 0.8,
        "sft.mixture": {"arithmetic/easy": 3000, "arithmetic/hard": 225, "docs": 11_000, "identity": 200,
                        "smalltalk": 300, "spelling": 1000},
        "sft.val_mixture": {"arithmetic/easy": 200, "docs": 200, "spelling": 50},
        "sft.steps": 150, "sft.batch_tokens": 2048, "sft.eval_every": 15, "sft.optim.lr_scale": 0.3,
        "sft.optim.schedule.final_lr_share": 0.0,
        "rl.steps": 22, "rl.samples": 16, "rl.max_new_tokens": 64, "rl.optim.lr_scale": 0.05,
        "rl.tasks": {"arithmetic/hard": 12, "arithmetic/easy": 2, "docs": 2},
        "rl.eval_every": 11, "rl.eval_problems": 200,
        "eval-base.num_problems": 200,
    },
)  # fmt: skip

_GPU_CHAT = {
    "shards.source": "hub",
    "mid.mixture": {"arithmetic/easy": 80_000, "arithmetic/hard": 40_000, "smalltalk": 100_000,
                    "spelling": 80_000, "identity": 2000},
    "mid.val_mixture": {"arithmetic/easy": 500, "spelling": 200},
    "sft.mixture": {"arithmetic/easy": 8000, "arithmetic/hard": 4000, "smalltalk": 10_000,
                    "spelling": 2000, "identity": 1000},
    "sft.val_mixture": {"arithmetic/easy": 500, "spelling": 200},
    "mid.steps": 200, "sft.steps": 100, "rl.steps": 100,
    "evaluate.tasks": ["arithmetic/easy", "arithmetic/hard", "spelling"],
}  # fmt: skip


def _gpu(name: str, about: str, depth: int, **values: Any) -> Preset:
    return Preset(
        name, about, {**_GPU_CHAT, "depth": depth, **{k.replace("__", "."): v for k, v in values.items()}}
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        TINY,
        DEMO,
        Preset("cpu", "the demo with more of everything: about an hour on 2 cores", {
            **DEMO.values, "depth": 6, "seq_len": 512, "micro_batch": 8, "vocab_size": 16_384,
            "base.batch_tokens": 4096, "base.steps": 3000, "mid.batch_tokens": 4096, "mid.steps": 800,
            "sft.batch_tokens": 4096, "sft.steps": 500, "rl.steps": 120, "base.eval_every": 300,
        }),
        _gpu("d12", "GPT-1 size on one GPU, about an hour", 12, shards__num_shards=12),
        _gpu("d20", "the $100 model on 8 GPUs", 20, nproc=8, shards__num_shards=100),
        _gpu("d24", "GPT-2 grade on 8 GPUs", 24, nproc=8, shards__num_shards=150),
        _gpu("speedrun", "the quickest way to GPT-2 grade on 8 GPUs", 22, nproc=8, tokens_per_parameter=9.4,
             vocab_size=49_152, micro_batch=16, shards__num_shards=170),
        _gpu("miniseries", "one of the scaling series; set depth=12 to 26", 12, shards__num_shards=170),
    )
}  # fmt: skip
