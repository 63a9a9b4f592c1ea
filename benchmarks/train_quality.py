"""Quality at equal cost: val_bpb of both sides after the same number of tokens, by depth and seed.

Time is not measured here, so both train at once, with one thread each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from loader import peer_command
from train_sides import Setting, our_config, peer_options, start_ours, start_peer

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
NANOCHAT_NAMES = {
    "embedding.weight": "transformer.wte.weight", "head.weight": "lm_head.weight",
    "residual_scale": "resid_lambdas", "skip_scale": "x0_lambdas", "smear_gate.weight": "smear_gate.weight",
    "smear_scale": "smear_lambda", "backout_scale": "backout_lambda",
}  # fmt: skip
NANOCHAT_PARTS = {
    "blocks": "transformer.h", "attention.query": "attn.c_q", "attention.key": "attn.c_k",
    "attention.value_gate": "attn.ve_gate", "attention.value": "attn.c_v", "attention.out": "attn.c_proj",
    "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj", "value_embeddings": "value_embeds",
}  # fmt: skip


def quality(work: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One record for each depth."""
    return [_of_depth(work, depth, arguments) for depth in arguments.depths]


def _of_depth(work: Path, depth: int, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    seq_len, rows, dtype = arguments.seq_len, arguments.rows, arguments.dtype
    setting = Setting(
        depth, arguments.vocab_size, seq_len, rows, steps=-(-arguments.tokens // (rows * seq_len)),
        aspect_ratio=arguments.aspect_ratio, head_dim=arguments.head_dim,
    )  # fmt: skip
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for seed in range(42, 42 + arguments.seeds):
        tag = f"d{depth}_seed{seed}"
        config = our_config(setting, seed, dtype)
        sides = [start_ours(work, tag, config, **ONE_THREAD)]
        if isinstance(peer_command(), list):
            options = peer_options(setting) | {"model_tag": tag}
            sides.append(start_peer(work, f"peer_{tag}", seed, options, NANOCHAT_DTYPE=dtype, **ONE_THREAD))
        try:
            for side in sides:
                side.finish()
        finally:
            for side in sides:
                side.end()
        found["ours"].append(measure(work, config, _our_weights(work / tag / "output")))
        if len(sides) == 2:
            saved = work / "base_checkpoints" / tag / f"model_{setting.steps:06d}.pt"
            weights = _renamed(torch.load(saved, weights_only=True), config)
            found["peer"].append(measure(work, config, weights))
        print(json.dumps({"depth": depth, "seed": seed, **found}), file=sys.stderr, flush=True)
    means = {name: statistics.mean(values) for name, values in found.items() if values}
    difference = round(means["ours"] - means["peer"], 4) if "peer" in means else None
    return {
        "depth": depth,
        "tokens": setting.steps * setting.batch,
        "val_bpb": found,
        "difference": difference,
    }


def _our_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def _renamed(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """nanochat's weights under our names; the formulas are the same."""
    from nanochat.config.model import ModelConfig
    from nanochat.model.gpt import GPT

    renamed = {}
    for ours in GPT(ModelConfig.model_validate(config["model"])).state_dict():
        theirs = NANOCHAT_NAMES.get(ours, ours)
        if ours not in NANOCHAT_NAMES:
            for part, name in NANOCHAT_PARTS.items():
                theirs = theirs.replace(part, name)
        renamed[ours] = weights[theirs].float()
    return renamed


def measure(work: Path, config: dict[str, Any], weights: dict[str, Any], val_tokens: int = 131_072) -> float:
    """val_bpb of these weights, in fp32, on the first batches of the validation shard."""
    import torch

    from nanochat.config.model import ModelConfig
    from nanochat.data.loader import PretrainLoader
    from nanochat.model.gpt import GPT
    from nanochat.tokenizer.tokenizer import Tokenizer
    from nanochat.train.validate import bits_per_byte

    tokenizer = Tokenizer.load(work / "ours" / "tokenizer.json")
    model = GPT(ModelConfig.model_validate(config["model"]))
    model.load_state_dict(weights)
    loader = PretrainLoader(work / "tokens", "val", 8, model.config.seq_len, tokenizer.special("bos"), seed=0)
    batches = [loader.next() for _ in range(max(1, val_tokens // (8 * model.config.seq_len)))]
    return round(bits_per_byte(model, batches, torch.as_tensor(tokenizer.token_bytes)), 4)
