"""Pickles of strangers are read as data or refused in one line; nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.export.restricted_pickle import Note, check, read
from nanochat.export.upstream import ENCODING
from tests.unit.nanochat.export.hostile import Calls, programs, raw

MARK = Path("mark")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
STATE = {
    "name": "x", "pat_str": ".", "special_tokens": {"<|bos|>": 256},
    "mergeable_ranks": {bytes([byte]): byte for byte in range(256)},
}  # fmt: skip


def refused(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(data, ENCODING, "tokenizer.pkl")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("tokenizer.pkl")
    return str(caught.value)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_an_encoding_is_read_as_data(protocol: int) -> None:
    found = read(pickle.dumps(tiktoken.Encoding(**STATE), protocol), ENCODING, "x")
    assert isinstance(found, Note)
    assert (found.name, found.state) == (ENCODING, STATE)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_protocols_that_need_calls_are_refused(protocol: int) -> None:
    """In them bytes, or the object itself, are made by calling something."""
    assert "not allowed" in refused(pickle.dumps(tiktoken.Encoding(**STATE), protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", programs(MARK))
def test_a_program_is_refused(name: str, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for data in (
        pickle.dumps(programs(mark)[name], protocol),
        pickle.dumps({**STATE, "name": programs(mark)[name]}, protocol),
    ):
        assert "not allowed" in refused(data)
        with pytest.raises(DataError):
            check(data, {"collections OrderedDict"}, "model.pt")
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_so_is_one_inside_an_encoding(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    encoding = tiktoken.Encoding(**STATE)
    encoding._special_tokens = programs(mark)["os.system"]
    assert "'posix.system'" in refused(pickle.dumps(encoding, protocol))
    assert not mark.exists()


@pytest.mark.parametrize("name", raw(MARK))
def test_instructions_by_hand_are_refused(name: str, tmp_path: Path) -> None:
    data = raw(tmp_path / "mark")[name]
    if name == "an encoding by name":  # data, but not ours: read_tokenizer refuses it
        assert read(data, ENCODING, "x").state == "gpt2"
    else:
        refused(data)
    assert not (tmp_path / "mark").exists()


def test_what_is_no_name_is_not_written_out() -> None:
    """Each level holds the one below twice: as text, 2**40 of the last."""
    data = b"\x80\x04}\x94"
    for level in range(40):
        below = b"h" + bytes([level])
        data += b"}\x94(K\x00" + below + b"K\x01" + below + b"u"
    for names in (b"\x8c\x01a", b"\x8c\x01a" + b"h\x28"):
        assert "no readable pickle: TypeError" in refused(data + names + b"\x93.")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_data_or_refused(data: bytes) -> None:
    try:
        read(b"\x80\x04" + data, ENCODING, "x")
    except DataError:
        return


@given(value=st.recursive(
    st.one_of(st.integers(-(2**70), 2**70), st.text(), st.binary(), st.booleans(), st.none()),
    lambda inner: st.dictionaries(st.one_of(st.text(), st.integers(), st.binary()), inner),
))  # fmt: skip
def test_plain_data_is_as_pickle_reads_it(value: Any) -> None:
    assert read(pickle.dumps(value, 4), ENCODING, "x") == value


def test_the_check_allows_the_listed_names_only() -> None:
    data = pickle.dumps(OrderedDict(a=1), 2)
    check(data, {"collections OrderedDict"}, "x")
    with pytest.raises(DataError, match=r"'collections\.OrderedDict', which is not allowed"):
        check(data, set(), "x")
    with pytest.raises(DataError, match="the instruction STACK_GLOBAL"):
        check(pickle.dumps(OrderedDict(a=1), 4), {"collections OrderedDict"}, "x")
    with pytest.raises(DataError, match=r"'posix\.system'"):
        check(pickle.dumps(Calls(os.system, "true"), 2), {"collections OrderedDict"}, "x")
