"""Writing tensors to a file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from artifacts.errors import ResourceError


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file. Raises ResourceError if it cannot be written, as on a full disk."""
    try:
        save_file(weights, path, metadata={"format": "pt"})  # transformers asks for it
    except SafetensorError as error:
        raise ResourceError(f"{path.name} cannot be written: {error}", "free some space") from error
