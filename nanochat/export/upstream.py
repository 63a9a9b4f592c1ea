"""A checkpoint of nanochat (model_STEP.pt, meta_STEP.json, tokenizer.pkl) as the files of one of our models.

Two models of nanochat are known, which have their settings in code: that of July 2026 and that of December
2025. Which one a checkpoint is of is told by its parameters.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from artifacts.atomic import digest_into
from artifacts.errors import DataError, ResourceError
from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.export.restricted_pickle import MAX_PICKLE_BYTES, SAFE, Note, read
from nanochat.export.torch_file import load_tensors
from nanochat.export.weights import save_weights
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

ENCODING = "tiktoken.core Encoding"
TOKENIZER = "tokenizer.pkl"
_COMPILED = "_orig_mod."  # what torch.compile puts before each name
_FIELDS = {
    "sequence_len": "seq_len", "vocab_size": "vocab_size", "n_layer": "depth", "n_head": "num_heads",
    "n_kv_head": "num_kv_heads", "n_embd": "width", "window_pattern": "window_pattern",
}  # fmt: skip
_OUTER = {
    "transformer.wte.weight": "embedding.weight", "lm_head.weight": "head.weight",
    "resid_lambdas": "residual_scale", "x0_lambdas": "skip_scale", "backout_lambda": "backout_scale",
    "smear_gate.weight": "smear_gate.weight", "smear_lambda": "smear_scale",
}  # fmt: skip
_LAYER = {
    "attn.c_q": "attention.query", "attn.c_k": "attention.key", "attn.c_v": "attention.value",
    "attn.c_proj": "attention.out", "attn.ve_gate": "attention.value_gate",
    "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down",
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """The files of one checkpoint, which are not read yet."""

    step: int
    model: Path
    meta: Path
    tokenizer: Path


def find(folder: Path, step: int | None = None, tokenizer: Path | None = None) -> Checkpoint:
    """The checkpoint of ``folder`` with the highest step, or with ``step``.

    The tokenizer is looked for there, and where nanochat keeps it: in ``tokenizer/`` two folders up. Raises
    ResourceError for what is missing.
    """
    if not folder.is_dir():
        raise ResourceError(f"{folder} is no folder", "name the one with model_*.pt and meta_*.json")
    matches = [re.fullmatch(r"model_(\d+)\.pt", path.name) for path in folder.iterdir()]
    steps = {int(match[1]): match[1] for match in matches if match}
    if step is None and steps:
        step = max(steps)
    if step not in steps:
        wanted = "no model_*.pt" if step is None else f"no checkpoint of step {step}"
        known = ", ".join(map(str, sorted(steps))) or "none"
        raise ResourceError(f"{folder}: {wanted}", f"steps that are there: {known}")
    kept = folder.resolve().parent.parent / "tokenizer" / TOKENIZER
    places = [tokenizer] if tokenizer else [folder / TOKENIZER, kept]
    found = next((place for place in places if place.is_file()), None)
    meta = folder / f"meta_{steps[step]}.json"
    if found is None:
        raise ResourceError(f"{places[0]}: no such file", "name nanochat's tokenizer.pkl with --tokenizer")
    if not meta.is_file():
        raise ResourceError(f"{meta}: no such file", "it says which shape the model has")
    return Checkpoint(step, folder / f"model_{steps[step]}.pt", meta, found)


def convert(checkpoint: Checkpoint, output: Path, *, kind: str) -> ModelConfig:
    """Write the payload of a model artifact of ``kind`` into the folder ``output``.

    Raises DataError, with one line, for a pickle with more in it than it should have, and for what cannot be
    mapped.
    """
    meta = _json(checkpoint.meta)
    tokenizer = read_tokenizer(checkpoint.tokenizer)
    tensors = load_tensors(checkpoint.model)
    tensors = {name.removeprefix(_COMPILED): tensor for name, tensor in tensors.items()}
    shape = shape_of(meta.get("model_config"), tensors, checkpoint.meta.name)
    if tokenizer.vocab_size != shape.vocab_size:
        raise DataError(
            f"{checkpoint.tokenizer.name} has {tokenizer.vocab_size} ids, the model {shape.vocab_size}",
            "name the tokenizer that it was trained with: --tokenizer",
        )
    weights = renamed(tensors, shape, checkpoint.model.name)
    save_weights(weights, output / "model.safetensors")
    (output / "config.json").write_text(shape.model_dump_json(indent=1))
    tokenizer.save(output)
    loss = meta.get("val_bpb")
    measured = isinstance(loss, int | float) and math.isfinite(loss)
    losses = {"val_metric": "val_bpb", "train": [], "val": [[checkpoint.step, loss]] if measured else []}
    (output / "losses.json").write_text(json.dumps(losses))
    batch = meta.get("total_batch_size")
    about = {
        "stage": kind, "steps": checkpoint.step,
        "tokens": checkpoint.step * batch if type(batch) is int and batch > 0 else 0,
        "imported": {"from": "nanochat", "sha256": digest_into(checkpoint.model)},
    }  # fmt: skip
    (output / "meta.json").write_text(json.dumps(about, indent=1))
    return shape


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of nanochat's pickled tiktoken encoding. Raises DataError for any other pickle."""
    if path.stat().st_size > MAX_PICKLE_BYTES:
        raise DataError(f"{path.name} is larger than {MAX_PICKLE_BYTES >> 20} MiB", SAFE)
    found = read(path.read_bytes(), ENCODING, path.name)
    state = found.state if isinstance(found, Note) else None
    keys = {"name", "pat_str", "mergeable_ranks", "special_tokens"}
    if not isinstance(state, dict) or state.keys() != keys:
        raise DataError(f"{path.name} is no pickled tiktoken encoding with ranks of its own")
    ranks, special, pattern = state["mergeable_ranks"], state["special_tokens"], state["pat_str"]
    if not isinstance(ranks, dict) or not isinstance(pattern, str):
        raise DataError(f"{path.name}: its ranks are no dictionary, or its pattern no text")
    tokens = {rank: token for token, rank in ranks.items() if type(rank) is int and type(token) is bytes}
    if sorted(tokens) != list(range(len(ranks))):
        raise DataError(f"{path.name}: its ranks are not 0, 1, 2 … for bytes")
    if special != {token: id_ for id_, token in enumerate(SPECIAL_TOKENS, len(ranks))}:
        raise DataError(f"{path.name}: its special tokens are not nanochat's nine, after the others")
    try:
        return Tokenizer(tuple(tokens[rank] for rank in range(len(ranks))), pattern)
    except ValueError as error:
        raise DataError(f"{path.name}: {error}", "only a tokenizer that nanochat trained will do") from None


def shape_of(config: Any, tensors: dict[str, Tensor], where: str) -> ModelConfig:
    """Our config for nanochat's ``model_config``; the parameters say which of its two models it is."""
    if not isinstance(config, dict):
        raise DataError(f"{where}: model_config is missing")
    if unknown := sorted(map(str, config.keys() - _FIELDS.keys())):
        raise DataError(f"{where}: model_config has {', '.join(unknown):.80}, which no model here has")
    if missing := sorted(_FIELDS.keys() - config.keys() - {"window_pattern"}):
        raise DataError(f"{where}: model_config lacks {', '.join(missing)}")
    current = any(name.startswith("value_embeds.") for name in tensors)
    fields = ARCHITECTURES["current" if current else "hf"] | {
        _FIELDS[name]: value for name, value in config.items()
    }
    if isinstance(pattern := config.get("window_pattern", "L"), str):
        fields["window_pattern"] = pattern.upper()
    try:
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "model_config"
        raise DataError(f"{where}: {field}: {first['msg']}") from None


def renamed(tensors: dict[str, Tensor], shape: ModelConfig, where: str) -> dict[str, Tensor]:
    """Copies in fp32 under our names. DataError for one too many, too few, or of another shape."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in GPT(shape).state_dict().items()}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = our_name(name)
        if ours is None or ours not in wanted:
            raise DataError(f"{where}: no model here has the parameter {name!r:.80}")
        if tuple(tensor.shape) != wanted[ours]:
            raise DataError(f"{where}: {name} is {tuple(tensor.shape)}, wanted {wanted[ours]}")
        found[ours] = tensor.float().clone(memory_format=torch.contiguous_format)
    if missing := sorted(wanted.keys() - found.keys()):
        raise DataError(f"{where}: nothing in it is {missing[0]}" + (", among others" if missing[1:] else ""))
    return found


def our_name(name: str) -> str | None:
    """``transformer.h.3.attn.c_q.weight`` -> ``blocks.3.attention.query.weight``; None for an unknown one."""
    if name in _OUTER:
        return _OUTER[name]
    if match := re.fullmatch(r"value_embeds\.(\d+)\.weight", name):
        return f"value_embeddings.{match[1]}.weight"
    match = re.fullmatch(r"transformer\.h\.(\d+)\.([\w.]+)\.weight", name)
    return f"blocks.{match[1]}.{_LAYER[match[2]]}.weight" if match and match[2] in _LAYER else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise DataError(f"{path.name} is not JSON") from None
    if not isinstance(value, dict):
        raise DataError(f"{path.name} is not a JSON object")
    return value
