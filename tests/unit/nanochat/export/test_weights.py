"""A weights file that cannot be written is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from artifacts.errors import ResourceError
from nanochat.export.weights import save_weights


def test_transformers_finds_the_format_that_it_asks_for(tmp_path: Path) -> None:
    save_weights({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"x\.safetensors cannot be written"):
        save_weights({"a": torch.ones(2)}, tmp_path / "absent" / "x.safetensors")
