"""The campaigns on data of other libraries: Arrow arrays, and Parquet files whole and damaged."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import bpe_draw as drawn
import pyarrow as pa
import pyarrow.parquet as pq
from bpe_checks import attempt, check_flat, check_trained, named, refused, trained

import rustbpe

STRINGS = [pa.string(), pa.large_string(), pa.string_view()]
OTHERS = [
    pa.binary(),
    pa.int64(),
    pa.null(),
    pa.bool_(),
    pa.list_(pa.string()),
    pa.dictionary(pa.int32(), pa.string()),
]


READ = ["none", "snappy", "zstd"]  # compressions of Parquet files that the crate reads


class Handed:
    """An array that hands over the same capsules every time; after the first they are empty."""

    def __init__(self, array: pa.Array) -> None:
        self.capsules = array.__arrow_c_array__()

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return self.capsules


def array_of(draw: random.Random, values: list[str | None], kind: pa.DataType) -> pa.Array:
    """``values`` as an array of a type, now and then as a slice of a larger one."""
    before, after = drawn.texts(draw, 3), drawn.texts(draw, 3)
    if draw.random() < 0.5:
        before, after = [], []
    whole = pa.array([*before, *values, *after], pa.string())
    if pa.types.is_dictionary(kind):
        whole = whole.dictionary_encode()
    elif pa.types.is_binary(kind) or kind in STRINGS:
        whole = whole.cast(kind)
    elif pa.types.is_list(kind):
        whole = pa.array([[value] for value in whole.to_pylist()], kind)
    else:
        whole = pa.array([None] * len(whole), kind)
    return whole.slice(len(before), len(values))


def not_utf8(draw: random.Random) -> pa.Array:
    """A string array whose bytes are random, which Arrow does not check."""
    data = draw.randbytes(draw.randint(1, 40)) + draw.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8"])
    middle = draw.randrange(len(data))
    offsets = pa.py_buffer(b"".join(at.to_bytes(4, "little") for at in (0, middle, len(data))))
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(data)])


def arrow(draw: random.Random) -> str:
    """Arrays of all string types, sliced, with nulls, of other types, of bytes that are no UTF-8."""
    _, encoder, _ = trained()
    values: list[str | None] = [*drawn.texts(draw)]
    kind, threads = draw.random(), draw.choice([0, 1, 2, 5])
    if kind < 0.1:
        bad = not_utf8(draw)
        outcomes = [attempt(lambda: encoder.encode_to_numpy(bad)), attempt(lambda: rustbpe.train([bad], 260))]
        assert all(map(refused, outcomes)), "bytes that are no UTF-8 were accepted"
        return f"no UTF-8 {named(outcomes[0])}"
    if kind < 0.17:
        handed = Handed(array_of(draw, values, draw.choice(STRINGS)))
        first, again = (attempt(lambda: encoder.encode_to_numpy(handed)) for _ in range(2))
        assert refused(again), "capsules that were consumed are read again"
        return f"capsules {named(first)}, again {named(again)}"
    if kind < 0.27:
        if draw.random() < 0.2:
            outcome = attempt(lambda: encoder.encode_to_numpy(drawn.backwards(draw)), BufferError)
            assert not refused(outcome) or "UTF-8" not in str(outcome), "memory beside the buffer was read"
            return f"backwards {named(outcome)}"
        untrue = drawn.FakeArray(draw)
        outcome = attempt(lambda: encoder.encode_to_numpy(draw.choice([untrue, [untrue]])), BufferError)
        return f"fake {named(outcome)}"
    if kind < 0.4:
        other = array_of(draw, values, draw.choice(OTHERS))
        outcome = attempt(lambda: encoder.encode_to_numpy(other))
        attempt(lambda: rustbpe.train([other], 260))
        return f"{str(other.type).partition('<')[0]} {named(outcome)}"
    if kind < 0.6 and values:
        values[draw.randrange(len(values))] = None
        holed = array_of(draw, values, draw.choice(STRINGS))
        outcome = attempt(lambda: encoder.encode_to_numpy(holed, threads))
        if not refused(outcome):
            assert len(outcome[1]) == len(values) + 1
        attempt(lambda: rustbpe.train([holed], 260))
        return f"null {named(outcome)}"
    texts = [value or "" for value in values]
    strings = array_of(draw, values, draw.choice(STRINGS))
    if strings.type == pa.string_view() and refused(
        outcome := attempt(lambda: encoder.encode_to_numpy(strings))
    ):
        return f"string_view {named(outcome)}"
    check_flat(encoder, strings, encoder.encode_batch(texts), threads, draw.choice(["uint16", "uint32"]))
    cut = draw.randrange(len(texts) + 1)
    chunks = [strings.slice(0, cut), strings.slice(cut)]
    same = [attempt(lambda given=given: rustbpe.train(given, 300)) for given in (texts, chunks)]  # type: ignore[misc]
    assert refused(same[0]) == refused(same[1])
    if not refused(same[0]):
        assert same[0].tokens == same[1].tokens
    return "equal"


@cache
def folder() -> Any:
    """A folder for one file after the other, as long as the process."""
    return tempfile.TemporaryDirectory(prefix="fuzz-bpe-")


def written(draw: random.Random, path: Path, texts: list[str | None]) -> bool:
    """Write a Parquet file of ``texts`` in one of many ways; whether the crate must be able to read it."""
    kind = draw.choice([*STRINGS] * 4 + OTHERS[:2])
    compression = draw.choice([*READ * 3, "gzip", "lz4", "brotli"])
    table = pa.table({"number": pa.array(range(len(texts))), "text": array_of(draw, texts, kind)})
    pq.write_table(
        table,
        path,
        row_group_size=draw.choice([1, 3, 1000]),
        compression=compression,
        use_dictionary=draw.random() < 0.5,
        write_statistics=draw.random() < 0.5,
        write_page_checksum=draw.random() < 0.3,
        store_schema=draw.random() < 0.5,
        data_page_size=draw.choice([None, 64]),
        data_page_version=draw.choice(["1.0", "2.0"]),
        column_encoding=None,
    )
    return kind in STRINGS and compression in READ


def damage(draw: random.Random, path: Path) -> str:
    """Change the bytes of a file, and say how."""
    data, kind = (
        bytearray(path.read_bytes()),
        draw.choice(["cut", "flip", "flip", "flip", "zero", "noise", "footer"]),
    )
    if kind == "cut":
        del data[draw.randrange(len(data)) :]
    elif kind == "flip":
        for _ in range(draw.choice([1, 1, 2, 8])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "footer":
        at = len(data) - 1 - draw.randrange(min(len(data), 400))
        data[at] = draw.randrange(256)
    else:
        at, size = draw.randrange(len(data)), draw.randint(1, 64)
        data[at : at + size] = bytes(size) if kind == "zero" else draw.randbytes(size)
    path.write_bytes(data)
    return kind


def limited(
    texts: list[str | None], doc_cap: int | None = None, max_chars: int | None = None, **_: object
) -> list[str]:
    """What counts of ``texts``: so many characters of each, and in all; nulls never do."""
    kept, left = [], max_chars if max_chars is not None else sum(len(text or "") for text in texts)
    for text in texts:
        kept.append((text or "")[:doc_cap][:left])
        left -= len(kept[-1])
    return kept


def parquet(draw: random.Random) -> str:
    """Files that are whole, damaged, of another type, missing or no Parquet at all."""
    path = Path(folder().name) / "case.parquet"
    texts: list[str | None] = [*drawn.texts(draw, 20)]
    if texts and draw.random() < 0.15:
        texts[draw.randrange(len(texts))] = None
    readable = written(draw, path, texts)
    options: dict[str, Any] = {"threads": draw.choice([0, 1, 2])}
    if draw.random() < 0.3:
        options["doc_cap"] = draw.choice([1, 5, 100, 2**40])
    if draw.random() < 0.3:
        options["max_chars"] = draw.choice([0, 1, 50, 1000, 2**40])
    kind = draw.random()
    column, paths = "text", [str(path)]
    if kind < 0.6:
        how = damage(draw, path)
    elif kind < 0.7:
        how = column = draw.choice(["number", "nothing", "", "TEXT", "text\0"])
    elif kind < 0.8:
        how = "no file"
        path.write_bytes(draw.choice([b"", b"PAR1", b"PAR1PAR1", b"PAR1\0\0\0\0PAR1", draw.randbytes(200)]))
        paths = draw.choice(
            [paths, [str(path.parent)], [f"{path}.missing"], [""], [str(path), f"{path}.missing"]]
        )
    else:
        how = "whole" if readable else "other type or codec"
    made = attempt(lambda: rustbpe.train_parquet(paths, 280, column, **options), OSError)
    if not refused(made):
        check_trained(made, 280)
    if how == "whole":
        expected = attempt(lambda: rustbpe.train(limited(texts, **options), 280))
        assert refused(made) == refused(expected), f"{made!r} and {expected!r}"
        assert refused(made) or made.tokens == expected.tokens, "not what the texts in memory give"
    return f"{how} {named(made)}"
