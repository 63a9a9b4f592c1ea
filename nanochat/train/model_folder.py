"""The payload of a model artifact: weights, shape, tokenizer, loss curve and meta, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from nanochat.config.model import ModelConfig
from nanochat.model.gpt import GPT
from nanochat.train.loop import Curve
from nanochat.train.setup import resolve_device, resolve_dtype, seed_everything


def load_model(folder: Path, dtype: str = "auto", seed: int = 0) -> GPT:
    """The model of ``folder`` on this rank's device; seeds torch, so that what follows is reproducible."""
    device = resolve_device()
    seed_everything(seed, device)
    shape = ModelConfig.model_validate_json((folder / "config.json").read_text())
    model = GPT(shape, resolve_dtype(dtype, device))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(device)


def save_model(model: GPT, folder: Path, tokenizer_file: Path, curve: Curve, meta: dict[str, Any]) -> None:
    """Write the payload of a model artifact: weights, shape, tokenizer, loss curve, meta."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(model.config.model_dump_json(indent=1))
    (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    curve.save(folder / "losses.json")
    (folder / "meta.json").write_text(json.dumps({**meta, "tokens": curve.tokens}, indent=1))
