"""Checkpoints: tensors and JSON state in, a folder published by one rename out, and found again.

``step-00001234/`` holds ``tensors.safetensors``, ``state.json`` and, written last, ``manifest.json`` with
the size and sha256 of both. A folder counts only if its manifest fits its files; the highest step wins,
never a clock. One process writes to a folder; any number may read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from artifacts.atomic import TEMPORARY_PREFIX, digest_into, disk_errors, make_directories, publish_directory
from artifacts.errors import DataError, ResourceError

logger = logging.getLogger(__name__)

SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
MAX_HEADER_BYTES = 100_000_000
_NAME = re.compile(r"step-(\d{8,})")


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any], keep: int = 2
) -> Path:
    """Publish a checkpoint of ``step`` in ``folder`` and keep the ``keep`` (at least 2) newest valid ones.

    A valid checkpoint of the same step is left as it is. ResourceError if it cannot be written (no space,
    no permission): then everything that was there before is unchanged and nothing new is left behind.
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
    _retain(folder, step, keep)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The valid checkpoint with the highest step, digests verified; None if there has never been one.

    A damaged one is skipped with a warning. DataError if checkpoints exist and none is valid: starting
    again from nothing must be somebody's decision.
    """
    found = sorted(_steps(folder), reverse=True)
    for _, path in found:
        try:
            verify_checkpoint(path)
        except DataError as error:
            logger.warning("skipping a damaged checkpoint: %s", error)
        else:
            return path
    if found:
        raise DataError(
            f"{folder}: none of its {len(found)} checkpoints is valid",
            "remove the folder to start from scratch",
        )
    return None


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and state of a checkpoint. DataError naming the file that fails verification."""
    verify_checkpoint(path)
    try:
        return load_file(path / TENSORS), json.loads((path / STATE).read_bytes())
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a checkpoint: {error}") from None


def verify_checkpoint(path: Path) -> None:
    """Check presence, size and sha256 of every file against the manifest. DataError names the file."""
    digests = _check_sizes(path)
    with (path / TENSORS).open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_HEADER_BYTES:
        raise DataError(
            f"{path / TENSORS}: header of {header} bytes, at most {MAX_HEADER_BYTES} are accepted"
        )
    for name, digest in digests.items():
        if digest_into(path / name) != digest:
            raise DataError(f"{path / name}: its sha256 is not the one in the manifest")


def _check_sizes(path: Path) -> dict[str, str]:
    """The digest of each file, after checking that just these files are there, with the stated sizes."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        stated = {entry["path"]: (entry["size"], entry["sha256"]) for entry in manifest["files"]}
        subject = (manifest["schema"], f"step-{manifest['step']:08d}", sorted(stated))
        present = {file.name: file.lstat().st_size for file in path.iterdir()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / MANIFEST}: no readable manifest: {error!r}") from None
    if subject != (SCHEMA, path.name, [STATE, TENSORS]):
        raise DataError(f"{path / MANIFEST}: describes something else: {subject}")
    del present[MANIFEST]
    for name in sorted(present.keys() | stated.keys()):
        size, expected = present.get(name), stated.get(name, (None, ""))[0]
        if size is None or size != expected:
            raise DataError(f"{path / name}: {size} bytes, the manifest says {expected}")
    return {name: digest for name, (_, digest) in stated.items()}


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


def _retain(folder: Path, step: int, keep: int) -> None:
    """Remove what is older than the ``keep`` newest complete ones up to ``step``; a failure only warns."""
    kept = 0
    for number, path in sorted(_steps(folder), reverse=True):
        if number > step:
            continue
        if kept < keep:
            kept += _passes(_check_sizes, path)
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


def _steps(folder: Path) -> list[tuple[int, Path]]:
    if not folder.exists():
        return []
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match[1]), path) for match, path in matches if match]
