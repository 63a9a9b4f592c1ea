"""Files of torch.save: tensors are read, all else is refused before torch sees it."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError, ResourceError
from nanochat.export.torch_file import load_tensors
from tests.unit.nanochat.export.hostile import programs, raw

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(0)}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """``saved(anything)``: the file that torch.save makes of it."""

    def save(value: Any, **options: Any) -> Path:
        torch.save(value, tmp_path / "model.pt", **options)
        return tmp_path / "model.pt"

    return save


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """``changed({"x/y": b"…"})``: a file of torch.save with members replaced, added, or (None) left out."""

    def change(members: dict[str, bytes | None], **options: Any) -> Path:
        buffer = io.BytesIO()
        torch.save(TENSORS, buffer)
        path = tmp_path / "changed.pt"
        with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", **options) as target:
            there = {name: source.read(name) for name in source.namelist()}
            for name, data in {**there, **members}.items():
                if data is not None:
                    target.writestr(name, data)
        return path

    return change


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_tensors_are_read(kind: type, saved: Callable[..., Path]) -> None:
    found = load_tensors(saved(kind(TENSORS)))
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in found.items()} == {
        name: (tensor.dtype, tensor.tolist()) for name, tensor in TENSORS.items()
    }


def test_a_state_dict_with_its_metadata_is_read(saved: Callable[..., Path]) -> None:
    module = torch.nn.Linear(2, 3)
    assert set(load_tensors(saved(module.state_dict()))) == {"weight", "bias"}


def test_what_is_changed_is_a_file_of_torch(changed: Callable[..., Path]) -> None:
    assert set(load_tensors(changed({}))) == set(TENSORS)


@pytest.mark.parametrize("name", programs(Path("mark")))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_program_is_refused(name: str, protocol: int, saved: Callable[..., Path], tmp_path: Path) -> None:
    value = {"a": TENSORS["a"], "b": programs(tmp_path / "mark")[name]}
    assert "not allowed (nothing of it was run)" in refused(saved(value, pickle_protocol=max(protocol, 2)))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", raw(Path("mark")))
def test_instructions_by_hand_are_refused(name: str, changed: Callable[..., Path], tmp_path: Path) -> None:
    refused(changed({"archive/data.pkl": raw(tmp_path / "mark")[name]}))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "members",
    [
        {"archive/code/x.py": b"1"}, {"archive/constants.pkl": b"N."}, {"archive/data/../x": b"1"},
        {"../x": b"1"}, {"/x": b"1"}, {"other/data.pkl": b"N."}, {"archive/a/data.pkl": b"N."},
        {"archive/data.pkl": None}, {"archive/data/x": b"1"}, {"archive\\data.pkl": b"N."},
        {"archive/data.pkl/": b""},
    ],
    ids=str,
)  # fmt: skip
def test_a_member_that_torch_does_not_write_is_refused(
    members: dict[str, bytes | None], changed: Callable[..., Path]
) -> None:
    refused(changed(members))


def test_a_member_that_is_there_twice_is_refused(saved: Callable[..., Path]) -> None:
    path = saved(TENSORS)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/data.pkl", b"N.")
    assert "'model/data.pkl'" in refused(path)


def test_a_compressed_one_is_refused(changed: Callable[..., Path]) -> None:
    assert "compressed" in refused(changed({}, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("value", [TENSORS, programs(Path("mark"))["os.system"]], ids=["tensors", "program"])
def test_the_old_format_is_refused(value: Any, saved: Callable[..., Path]) -> None:
    path = saved(value, _use_new_zipfile_serialization=False)
    assert "no zip file of torch.save" in refused(path)


def test_something_before_the_zip_is_refused(saved: Callable[..., Path]) -> None:
    path = saved(TENSORS)
    path.write_bytes(b"cos\nsystem\n" + path.read_bytes())
    assert "no zip file" in refused(path)


@pytest.mark.parametrize("size", [0, 3, 100, -1, -30])
def test_a_cut_file_is_refused(size: int, saved: Callable[..., Path]) -> None:
    path = saved(TENSORS)
    path.write_bytes(path.read_bytes()[:size])
    refused(path)


def test_a_damaged_one_too(saved: Callable[..., Path]) -> None:
    path = saved(TENSORS)
    data = bytearray(path.read_bytes())
    at = data.index(b"collections")
    data[at : at + 11] = b"Collections"
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize(
    "value", [[1], {"a": 1.5}, {"a": torch.ones(2, dtype=torch.int64)}, {1: torch.ones(2)}], ids=str
)
def test_what_is_no_tensors_by_name_is_refused(value: Any, saved: Callable[..., Path]) -> None:
    refused(saved(value))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no such file"):
        load_tensors(tmp_path / "model.pt")


def test_a_storage_that_is_missing_is_one_line(changed: Callable[..., Path]) -> None:
    assert "torch cannot read it" in refused(changed({"archive/data/0": None}))


def test_the_entry_of_another_name_is_not_taken(saved: Callable[..., Path]) -> None:
    """The directory says data.pkl, the place it leads to another name."""
    path = saved(TENSORS)
    data = bytearray(path.read_bytes())
    at = data.index(b"model/data.pkl")
    data[at : at + 14] = b"model/evil.pkl"
    path.write_bytes(data)
    assert struct.unpack_from("<I", data)[0] == 0x04034B50
    refused(path)


def test_a_second_directory_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Two files in one, with one end: zipfile reads the last, torch the one whose place the end says."""
    values = {"b": programs(tmp_path / "mark")["os.system"]}, {"b": TENSORS["a"]}
    start = max(_without_end(value)[1] for value in values)
    (evil, _, bytes_), (good, _, same) = (_without_end(value, start) for value in values)
    assert same == bytes_
    path = tmp_path / "two.pt"
    path.write_bytes(evil + good + struct.pack("<4s4HIIH", b"PK\5\6", 0, 0, 7, 7, bytes_, start, 0))
    with zipfile.ZipFile(path) as archive:
        checked = archive.read("archive/data.pkl")
    assert b"system" not in checked
    assert b"system" in torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    assert "directory is not where its end says" in refused(path)
    assert not (tmp_path / "mark").exists()


def _without_end(value: Any, start: int = 0) -> tuple[bytes, int, int]:
    """A file of torch.save up to the end of its directory, the directory's place, and its length."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    made = io.BytesIO()
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(made, "w") as target:
        names = ["archive/data.pkl", "archive/data/0", "archive/version", "archive/byteorder"]
        names += ["archive/.format_version", "archive/.storage_alignment", "archive/.data/serialization_id"]
        there = source.namelist()
        for name in names:
            target.writestr(name, source.read(name) if name in there else b"")
    data = made.getvalue()
    bytes_, found = struct.unpack("<II", data[-10:-2])
    filled = data[:found] + bytes(max(0, start - found)) + data[found:-22]
    return filled, max(start, found), bytes_


@pytest.mark.parametrize("moved", [1, -1, 1000])
def test_a_directory_elsewhere_is_refused(moved: int, saved: Callable[..., Path]) -> None:
    path = saved(TENSORS)
    data = bytearray(path.read_bytes())
    for at, kind in ((-6, "<I"), (-98 + 48, "<Q")):
        place = struct.unpack_from(kind, data, len(data) + at)[0]
        struct.pack_into(kind, data, len(data) + at, place + moved)
    path.write_bytes(data)
    assert "directory is not where its end says" in refused(path)


def test_a_comment_at_the_end_is_refused(saved: Callable[..., Path]) -> None:
    path = saved(TENSORS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x"
    assert "directory is not where its end says" in refused(path)


def test_what_torch_reads_has_to_be_what_was_checked(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader(torch._C.PyTorchFileReader):
        def get_record(self, name: str) -> bytes:
            return b"N."

    monkeypatch.setattr(torch._C, "PyTorchFileReader", Reader)
    assert "other bytes of it than were checked" in refused(saved(TENSORS))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(()).expand(100_000, 100_000), torch.ones(2, 3).t(), torch.ones(8)[:4],
        torch.as_strided(torch.ones(1), (1, 1), (0, 0)).expand(50, 1),
    ],
    ids=["one number", "turned", "a part", "one column"],
)  # fmt: skip
def test_a_tensor_whose_numbers_are_not_all_there_is_refused(
    tensor: torch.Tensor, saved: Callable[..., Path]
) -> None:
    assert "of which the file has not every number" in refused(saved({"a": tensor}))


def test_so_are_many_of_the_same_bytes(saved: Callable[..., Path]) -> None:
    once = torch.ones(10_000)
    assert "larger than the file" in refused(saved({"a": once, "b": once.view(100, 100)}))


@pytest.mark.parametrize("shape", [b"J\xa0\x86\x01\x00J\xa0\x86\x01\x00\x86", b"J\x00\x00\x00\x7f\x85"])
def test_a_shape_larger_than_its_bytes_is_refused(shape: bytes, changed: Callable[..., Path]) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2, 3)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        data = archive.read("archive/data.pkl")
    assert data.count(b"K\x02K\x03\x86") == 1
    assert "\n" not in refused(changed({"archive/data.pkl": data.replace(b"K\x02K\x03\x86", shape)}))


@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), max_size=3))
@settings(deadline=None, max_examples=200)
def test_any_damage_is_tensors_or_one_line(changes: list[tuple[int, bytes]]) -> None:
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer)
    data = bytearray(buffer.getvalue())
    for at, part in changes:
        at %= len(data)
        data[at : at + len(part)] = part
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            load_tensors(path)
