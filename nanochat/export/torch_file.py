"""A state dict that ``torch.save`` wrote, read without trust: checked before torch sees it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from artifacts.atomic import disk_errors
from artifacts.errors import DataError, NanochatError, ResourceError
from nanochat.export.restricted_pickle import MAX_PICKLE_BYTES, SAFE, check

GLOBALS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {f"torch {name}Storage" for name in ("Float", "BFloat16", "Half")}
)
_MEMBER = re.compile(
    r"([^/\\]+)/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 0x1


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, mapped from the file. Raises DataError for a file that is not a plain state dict."""
    _check_file(path)
    try:
        found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # its own unpickler refuses in many ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path.name}: torch cannot read it: {reason:.100}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path.name} holds a {type(found).__name__}, not tensors by name")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise DataError(f"{path.name}: {name!r:.60} is no tensor of floating-point numbers")
    return found


def _check_file(path: Path) -> None:
    """A zip of the members that torch.save writes, not compressed, whose pickle asks for tensors alone."""
    try:
        with disk_errors(path), path.open("rb") as file:
            magic = file.read(len(_MAGIC))
        if magic != _MAGIC:
            raise DataError(f"{path.name} is no zip file of torch.save", SAFE)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            inside = next(member for member in members if member.filename.endswith("/data.pkl"))
            data = archive.read(inside)
    except FileNotFoundError:
        raise ResourceError(f"{path}: no such file") from None
    except NanochatError:
        raise
    except Exception as error:  # zipfile meets bytes that are no zip in many ways
        raise DataError(f"{path.name} is a damaged zip file: {type(error).__name__}", SAFE) from None
    check(data, GLOBALS, path.name)


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    folders, names = set(), set()
    for member in members:
        match = _MEMBER.fullmatch(member.orig_filename)
        if match is None or member.filename in names:
            inside = f"{member.orig_filename!r:.60}"
            raise DataError(f"{path.name} has {inside} in it, which torch.save does not write", SAFE)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
            raise DataError(f"{path.name}: {member.filename} is compressed or encrypted", SAFE)
        if match[2] == "data.pkl" and member.file_size > MAX_PICKLE_BYTES:
            raise DataError(
                f"{path.name}: {member.filename} is larger than {MAX_PICKLE_BYTES >> 20} MiB", SAFE
            )
        folders.add(match[1])
        names.add(member.filename)
    if len(folders) != 1 or f"{folders.pop()}/data.pkl" not in names:
        raise DataError(f"{path.name} is no file of torch.save: not one folder with data.pkl", SAFE)
