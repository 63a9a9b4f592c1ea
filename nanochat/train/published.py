"""The published checkpoints of a folder: which there are, and whether they are whole. Without torch.

``step-00001234/`` holds ``tensors.safetensors``, ``state.json`` and, written last, ``manifest.json`` with
the size and sha256 of both. A folder counts only if its manifest fits its files; the highest step wins,
never a clock. Any number of processes may read while one writes.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from artifacts.atomic import digest_into
from artifacts.errors import DataError

logger = logging.getLogger(__name__)

SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
MAX_HEADER_BYTES = 100_000_000
_NAME = re.compile(r"step-(\d{8,})")


def latest_checkpoint(folder: Path) -> Path | None:
    """The valid checkpoint with the highest step, digests verified; None if there has never been one.

    A damaged one is skipped with a warning. DataError if checkpoints exist and none is valid: starting
    again from nothing must be somebody's decision.
    """
    found = sorted(published_steps(folder), reverse=True)
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


def newest_step(folder: Path) -> int:
    """The highest step whose checkpoint has all its files in their stated sizes; -1 if there is none."""
    for step, path in sorted(published_steps(folder), reverse=True):
        try:
            check_sizes(path)
        except DataError:
            continue
        return step
    return -1


def verify_checkpoint(path: Path) -> None:
    """Check presence, size and sha256 of every file against the manifest. DataError names the file."""
    digests = check_sizes(path)
    with (path / TENSORS).open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_HEADER_BYTES:
        raise DataError(
            f"{path / TENSORS}: header of {header} bytes, at most {MAX_HEADER_BYTES} are accepted"
        )
    for name, digest in digests.items():
        if digest_into(path / name) != digest:
            raise DataError(f"{path / name}: its sha256 is not the one in {MANIFEST}")


def check_sizes(path: Path) -> dict[str, str]:
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
            raise DataError(f"{path / name}: {size} bytes, {MANIFEST} says {expected}")
    return {name: digest for name, (_, digest) in stated.items()}


def published_steps(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of every checkpoint, whole or not, in no order."""
    if not folder.exists():
        return []
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match[1]), path) for match, path in matches if match]
