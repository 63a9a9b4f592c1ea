"""A folder in another program's format, of the files of a model or tokenizer artifact."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from artifacts.errors import UsageError
from nanochat.engine.model_folder import open_model
from nanochat.export.hf_model import write_hf_model
from nanochat.export.hf_tokenizer import write_hf_tokenizer
from nanochat.export.new_folder import new_folder
from nanochat.export.readme import readme
from nanochat.export.tiktoken_files import write_tiktoken
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer

Format = Literal["safetensors", "hf", "tokenizer-json", "tiktoken"]
FORMATS: tuple[Format, ...] = get_args(Format)
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Exported:
    """What was written. ``beyond_stock``: what makes ``hf`` need code of its own; empty if it needs none."""

    folder: Path
    files: tuple[str, ...]
    bytes: int
    beyond_stock: tuple[str, ...]


def export(source: Path, format: Format, output: Path, *, name: str) -> Exported:
    """Write the artifact ``name``, whose files are in ``source``, to the new folder ``output``.

    Raises UsageError if ``output`` is there already or a tokenizer is asked for a model, DataError for files
    that do not fit together.
    """
    model: GPT | None = None
    if format in ("tokenizer-json", "tiktoken"):
        tokenizer = Tokenizer.load(source)
    elif (source / "model.safetensors").exists():
        model, tokenizer = open_model(source)
    else:
        raise UsageError(f"{name} is no model", "a tokenizer goes as tokenizer-json or tiktoken")
    beyond: list[str] = []
    with new_folder(output) as folder:
        if format == "safetensors":
            for file in _MODEL_FILES:
                shutil.copyfile(source / file, folder / file)
        elif format == "tiktoken":
            write_tiktoken(tokenizer, folder)
        elif model is None:
            write_hf_tokenizer(tokenizer, folder, None)
        else:
            write_hf_tokenizer(tokenizer, folder, model.config.seq_len)
            beyond = write_hf_model(model, tokenizer, folder)
        context = model.config.seq_len if model is not None else None
        (folder / "README.md").write_text(readme(name, format, beyond, context), encoding="utf-8")
        files = sorted(folder.iterdir())
        names, size = tuple(path.name for path in files), sum(path.stat().st_size for path in files)
    return Exported(output, names, size, tuple(beyond))
