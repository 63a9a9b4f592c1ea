"""A model as ``transformers`` loads it: as its own NanoChat where that is the same model, else with code.

What transformers calls NanoChat is nanochat's model of December 2025 (``arch=hf``). Any other shape is
written with the two modules of ``nanochat/export/remote``, which need transformers, torch, nothing of ours.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat.config.model import ModelConfig
from nanochat.export.weights import save_weights
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer

REMOTE = Path(__file__).parent / "remote"
CONFIGURATION, MODELING = "configuration_nanochat_pipeline", "modeling_nanochat_pipeline"
STOCK_CLASS, REMOTE_CLASS = "NanoChatForCausalLM", "NanoChatPipelineForCausalLM"
_LAYER = {
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "attention.out": "self_attn.o_proj",
    "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2",
}  # fmt: skip
_OUTER = {"embedding.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
_SWITCHES = {
    "value_embeddings": "value embeddings", "residual_scalars": "residual scalars", "smear": "smear",
    "backout": "backout", "document_mask": "a document mask",
}  # fmt: skip


def beyond_stock(shape: ModelConfig) -> list[str]:
    """What a model has that transformers' NanoChat lacks, in words; empty if it is the same model."""
    found = [text for name, text in _SWITCHES.items() if getattr(shape, name)]
    if any(shape.window(layer) < shape.seq_len for layer in range(shape.depth)):
        found.append(f"sliding windows ({shape.window_pattern})")
    if shape.qk_scale != 1:
        found.append(f"queries and keys times {shape.qk_scale:g}")
    return found


def write_hf_model(model: GPT, tokenizer: Tokenizer, folder: Path) -> list[str]:
    """config.json, generation_config.json, model.safetensors and, if they are needed, the modules.

    Returns what ``beyond_stock`` says. The weights are fp32, as they are kept.
    """
    shape, beyond = model.config, beyond_stock(model.config)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    ids = {"bos_token_id": shape.bos, "eos_token_id": [tokenizer.special("assistant_end"), shape.bos]}
    if beyond:
        config = remote_config(shape) | ids
        for module in (CONFIGURATION, MODELING):
            shutil.copyfile(REMOTE / f"{module}.py", folder / f"{module}.py")
    else:
        config, weights = stock_config(shape) | ids, stock_weights(shape, weights)
    save_weights(weights, folder / "model.safetensors")
    # The embedding of an id that pads would not be trained; generate may still pad with the end of an answer.
    _write(folder / "config.json", config | {"pad_token_id": None})
    _write(folder / "generation_config.json", ids | {"pad_token_id": tokenizer.special("assistant_end")})
    return beyond


def stock_config(shape: ModelConfig) -> dict[str, Any]:
    """The shape in the words of transformers' NanoChatConfig."""
    return {
        "architectures": [STOCK_CLASS], "model_type": "nanochat", "dtype": "float32",
        "vocab_size": shape.vocab_size, "hidden_size": shape.width, "intermediate_size": 4 * shape.width,
        "num_hidden_layers": shape.depth, "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads, "max_position_embeddings": shape.seq_len,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "final_logit_softcapping": shape.softcap, "rms_norm_eps": torch.finfo(torch.float32).eps,
        "hidden_act": "relu2", "attention_bias": False, "tie_word_embeddings": False,
    }  # fmt: skip


def stock_weights(shape: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names; rows that only pad the tables are left out."""
    rows = shape.vocab_size
    return {
        stock_name(name): tensor[:rows].contiguous() if name in _OUTER else tensor
        for name, tensor in weights.items()
    }


def stock_name(name: str) -> str:
    """``blocks.3.mlp.up.weight`` -> ``model.layers.3.mlp.fc1.weight``; KeyError for what they do not have."""
    if name in _OUTER:
        return _OUTER[name]
    _, layer, part = name.removesuffix(".weight").split(".", 2)
    return f"model.layers.{layer}.{_LAYER[part]}.weight"


def remote_config(shape: ModelConfig) -> dict[str, Any]:
    """Our own words, and where the code is."""
    return {
        "architectures": [REMOTE_CLASS], "model_type": "nanochat-pipeline", "dtype": "float32",
        "auto_map": {
            "AutoConfig": f"{CONFIGURATION}.NanoChatPipelineConfig",
            "AutoModelForCausalLM": f"{MODELING}.{REMOTE_CLASS}",
        },
        **shape.model_dump(exclude={"embedding_std", "mlp_init_scale"}),
        "tie_word_embeddings": False,
    }  # fmt: skip


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")
