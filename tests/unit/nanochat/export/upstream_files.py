"""A checkpoint as nanochat writes it, made of a model of ours: its names, its types, its files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer


def state_dict(model: GPT) -> dict[str, Tensor]:
    """The parameters under nanochat's names; its embeddings are bf16 where it trains in that."""
    ours, found = model.state_dict(), {}
    found["transformer.wte.weight"] = ours["embedding.weight"]
    for layer, block in enumerate(model.blocks):
        place = f"transformer.h.{layer}"
        found[f"{place}.attn.c_q.weight"] = block.attention.query.weight
        found[f"{place}.attn.c_k.weight"] = block.attention.key.weight
        found[f"{place}.attn.c_v.weight"] = block.attention.value.weight
        found[f"{place}.attn.c_proj.weight"] = block.attention.out.weight
        if block.attention.value_gate is not None:
            found[f"{place}.attn.ve_gate.weight"] = block.attention.value_gate.weight
        found[f"{place}.mlp.c_fc.weight"] = block.mlp.up.weight
        found[f"{place}.mlp.c_proj.weight"] = block.mlp.down.weight
    found["lm_head.weight"] = model.head.weight
    if model.config.value_embeddings:
        found["resid_lambdas"], found["x0_lambdas"] = model.residual_scale, model.skip_scale
        found["smear_gate.weight"], found["smear_lambda"] = model.smear_gate.weight, model.smear_scale
        found["backout_lambda"] = model.backout_scale
        for layer, table in model.value_embeddings.items():
            found[f"value_embeds.{layer}.weight"] = table.weight
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def model_config(model: GPT) -> dict[str, Any]:
    """What meta_*.json says of the shape."""
    shape = model.config
    config = {
        "sequence_len": shape.seq_len, "vocab_size": shape.vocab_size, "n_layer": shape.depth,
        "n_head": shape.num_heads, "n_kv_head": shape.num_kv_heads, "n_embd": shape.width,
    }  # fmt: skip
    return config | ({"window_pattern": shape.window_pattern} if shape.value_embeddings else {})


def write_checkpoint(folder: Path, model: GPT, tokenizer: Tokenizer, step: int = 7) -> Path:
    """model_STEP.pt, meta_STEP.json and tokenizer.pkl in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict(model), folder / f"model_{step:06d}.pt")
    meta = {"step": step, "val_bpb": 1.25, "model_config": model_config(model), "total_batch_size": 64}
    (folder / f"meta_{step:06d}.json").write_text(json.dumps(meta))
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(tokenizer.to_tiktoken()))
    return folder
