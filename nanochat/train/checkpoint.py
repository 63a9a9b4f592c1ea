"""Checkpoints: tensors and JSON state in, a folder published by one rename out, and loaded again.

What is in the folder and which one counts: ``nanochat/train/published.py``. One process writes to a folder.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from artifacts.atomic import TEMPORARY_PREFIX, digest_into, disk_errors, make_directories, publish_directory
from artifacts.errors import DataError, ResourceError
from nanochat.train.published import (
    MANIFEST,
    SCHEMA,
    STATE,
    TENSORS,
    check_sizes,
    published_steps,
    verify_checkpoint,
)

logger = logging.getLogger(__name__)


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    keep: int = 2,
    best: int | None = None,
) -> Path:
    """Publish a checkpoint of ``step`` in ``folder`` and keep the ``keep`` (at least 2) newest valid ones.

    That of step ``best`` is kept besides, however old. A valid checkpoint of the same step is left as it
    is. ResourceError if it cannot be written (no space, no permission): then everything that was there
    before is unchanged and nothing new is left behind.
    """
    assert keep >= 2, "the newest checkpoint may turn out to be damaged"
    final = folder / f"step-{step:08d}"
    temporary = _hidden(final)
    make_directories(folder)
    with disk_errors(final):
        _clean(folder)
        if final.exists():
            if _passes(verify_checkpoint, final):
                return final
            _remove(final)
        try:
            _write(temporary, step, tensors, state)
            publish_directory(temporary, final)
        except SafetensorError as error:  # its writer reports a full disk as this
            raise ResourceError(f"{final}: cannot write tensors: {error}", "free some space") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    _retain(folder, step, keep, best)
    return final


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and state of a checkpoint. DataError naming the file that fails verification."""
    verify_checkpoint(path)
    try:
        return load_file(path / TENSORS), json.loads((path / STATE).read_bytes())
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a checkpoint: {error}") from None


def _write(temporary: Path, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    temporary.mkdir()
    save_file(_separate(tensors), temporary / TENSORS)
    (temporary / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
    files = [
        {"path": name, "size": (temporary / name).stat().st_size, "sha256": digest_into(temporary / name)}
        for name in (STATE, TENSORS)
    ]
    manifest = {"schema": SCHEMA, "step": step, "files": files}
    (temporary / MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")), encoding="utf-8")


def _separate(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous CPU tensors of which no two share memory, as safetensors wants them."""
    separate: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if address in seen else plain
        seen.add(address)
    return separate


def _retain(folder: Path, step: int, keep: int, best: int | None) -> None:
    """Remove what is older than the ``keep`` newest complete ones up to ``step``; a failure only warns."""
    kept = 0
    for number, path in sorted(published_steps(folder), reverse=True):
        if number > step:
            continue
        if kept < keep:
            kept += _passes(check_sizes, path)
            continue
        if number == best:
            continue
        try:
            _remove(path)
        except OSError as error:
            logger.warning("cannot remove the old checkpoint %s: %s", path, error)


def _remove(path: Path) -> None:
    """Take a checkpoint out of sight by one rename before deleting it, so that none is ever seen in part."""
    os.rename(path, _hidden(path))
    shutil.rmtree(_hidden(path))


def _clean(folder: Path) -> None:
    """Remove what a killed save or removal left behind."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}step-*"):
        shutil.rmtree(path)


def _hidden(path: Path) -> Path:
    return path.with_name(TEMPORARY_PREFIX + path.name)


def _passes(check: Callable[[Path], object], path: Path) -> bool:
    try:
        check(path)
    except DataError:
        return False
    return True
