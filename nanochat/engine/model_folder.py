"""Opening a model artifact for inference: its folder in, a model and its tokenizer out."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from artifacts.errors import DataError, ResourceError
from nanochat.config.model import ModelConfig
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer


def open_model(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[GPT, Tokenizer]:
    """The model of ``folder`` (config.json, model.safetensors, tokenizer.json), ready to generate.

    Raises ResourceError for a missing file, DataError for files that do not fit together.
    """
    try:
        config = ModelConfig.model_validate_json((folder / "config.json").read_bytes())
        weights = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise ResourceError(f"{folder} is no model: {error.filename or error} is missing") from None
    except (ValidationError, SafetensorError) as error:
        raise DataError(f"{folder}: {str(error).splitlines()[0]}", "rebuild the model") from None
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size != config.vocab_size:
        raise DataError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}",
            "rebuild the model",
        )
    model = GPT(config, dtype)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise DataError(
            f"{folder}: model.safetensors does not fit config.json", "rebuild the model"
        ) from None
    return model.to(device).eval(), tokenizer
