"""A state dict that ``torch.save`` wrote, read without trust: checked before torch sees it."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

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
# The records at the end of a zip: the directory's size and place, the same in 64 bits, and where those are.
_END, _END64, _LOCATOR = struct.Struct("<4s4HIIH"), struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
_SEE_LARGER = 0xFFFFFFFF


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
        if not isinstance(name, str):
            raise DataError(f"{path.name} has a {type(name).__name__} where the name of a tensor should be")
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise DataError(f"{path.name}: {name!r:.60} is no tensor of floating-point numbers")
        if not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.nbytes:
            shape = f"{tuple(tensor.shape)!s:.60}"
            raise DataError(f"{path.name}: {name!r:.60} is {shape}, of which the file has not every number")
    if sum(tensor.nbytes for tensor in found.values()) > path.stat().st_size:
        raise DataError(f"{path.name}: its tensors are larger than the file, some share their bytes")
    return found


def _check_file(path: Path) -> None:
    """A zip of the members that torch.save writes, not compressed, whose pickle asks for tensors alone."""
    try:
        with disk_errors(path), path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DataError(f"{path.name} is no zip file of torch.save", SAFE)
            if not _ends_with_its_directory(file):
                raise DataError(f"{path.name}: the zip's directory is not where its end says", SAFE)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            inside = next(member for member in members if member.filename.endswith("/data.pkl"))
            data = archive.read(inside)
            if not _as_torch_reads_it(path, members, data):
                raise DataError(f"{path.name}: torch would read other bytes of it than were checked", SAFE)
    except FileNotFoundError:
        raise ResourceError(f"{path}: no such file") from None
    except NanochatError:
        raise
    except Exception as error:  # zipfile meets bytes that are no zip in many ways
        raise DataError(f"{path.name} is a damaged zip file: {type(error).__name__}", SAFE) from None
    check(data, GLOBALS, path.name)


def _ends_with_its_directory(file: BinaryIO) -> bool:
    """Whether the directory is exactly where the last record says, which is all that comes after it.

    If not, zipfile looks for it before the last record, and torch where the record says: two directories.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _LOCATOR.size - _END64.size))
    tail = file.read()
    magic, *_, bytes_, start, comment = _END.unpack(tail[-_END.size :])
    if magic != b"PK\5\6" or comment:
        return False
    end = size - _END.size
    tail = tail[: -_END.size]
    if tail[-_LOCATOR.size :].startswith(b"PK\6\7"):
        end -= _LOCATOR.size + _END64.size
        _, _, place, _ = _LOCATOR.unpack(tail[-_LOCATOR.size :])
        magic, length, *_, bytes_64, start_64 = _END64.unpack(tail[: -_LOCATOR.size])
        if (magic, length, place) != (b"PK\6\6", _END64.size - 12, end):
            return False
        if bytes_ not in (bytes_64, _SEE_LARGER) or start not in (start_64, _SEE_LARGER):
            return False
        bytes_, start = bytes_64, start_64
    return bool(start + bytes_ == end)


def _as_torch_reads_it(path: Path, members: list[zipfile.ZipInfo], data: bytes) -> bool:
    """Whether torch's own reader finds the same records in the same places, and ``data`` in data.pkl."""
    reader = torch._C.PyTorchFileReader(str(path))
    theirs = {
        name: (reader.get_record_offset(name), reader.get_record_size(name))
        for name in reader.get_all_records()
    }
    ours = {}
    with path.open("rb") as file:
        for member in members:
            file.seek(member.header_offset + 26)
            before = 30 + sum(struct.unpack("<2H", file.read(4)))
            ours[member.filename.partition("/")[2]] = (member.header_offset + before, member.file_size)
    return theirs == ours and reader.get_record("data.pkl") == data


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
