"""``nanochat tok train``, ``encode`` and ``decode``: files in, a tokenizer out; text to ids and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.data.shards import write_shard
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import train_on_texts

Cli = Callable[..., Any]
TypeIn = Callable[..., None]


def test_train_reads_text_and_parquet(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("training words " * 20)
    write_shard(tmp_path, "b.parquet", "train", ["more of them " * 5, "naïve"])
    out, new = tmp_path / "made", tmp_path / "deeper" / "made"
    ended = cli(
        "tok", "train", f"{tmp_path}/a.txt", f"{tmp_path}/b.parquet", "--vocab-size", "280", "-o", str(out)
    )
    assert f"{out}: 280 ids" in ended.out
    texts = ["training words " * 20, "more of them " * 5, "naïve"]
    assert Tokenizer.load(out) == train_on_texts(texts, 280)
    rows = json.loads((out / "compression.json").read_text())["rows"]
    assert [row["text"] for row in rows] == ["news", "code", "maths", "korean"]
    asked = ("tok", "train", f"{tmp_path}/a.txt", "--vocab-size", "267", "--max-chars", "4", "--threads", "1")
    said = json.loads(cli(*asked, "--output", str(new), "--json").out)
    assert said == {"folder": str(new), "vocab_size": 267}
    assert Tokenizer.load(new) == train_on_texts(["trai"], 267)


@pytest.mark.parametrize(
    ("arguments", "rc", "said"),
    [
        ((), 2, "no file to train on"), (("none.txt",), 4, "none.txt: no such file"),
        ((".",), 2, ". is a folder"),
        (("bad.txt",), 3, "bad.txt is not UTF-8"), (("bad.parquet",), 3, "shard bad.parquet, row group 0"),
        (("good.txt", "--vocab-size", "264"), 2, "vocab_size 264 is under 265"),
        (("good.txt", "--vocab-size", "99999"), 2, "largest possible is"),
        (("good.txt", "-o", "bad.txt"), 2, "bad.txt exists"),
        (("good.txt", "--max-chars", "0"), 2, "--max-chars 0 (at least 1)"),
        (("good.txt", "--threads", "-1"), 2, "--threads -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], rc: int, said: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("words and words")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    before = sorted(tmp_path.iterdir())
    defaults = {"--vocab-size": "270", "-o": "out"}
    more = [word for option, value in defaults.items() if option not in arguments for word in (option, value)]
    ended = cli("tok", "train", *arguments, *more, rc=rc)
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_encode_prints_the_ids_of_an_argument_or_of_stdin(
    cli: Cli, tokenizer_folder: Path, type_in: TypeIn
) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    text = "naïve 🤖 <|bos|>\n"
    ids = tokenizer.encode(text)
    assert (
        cli("tok", "encode", text, "--tokenizer", str(tokenizer_folder)).out == " ".join(map(str, ids)) + "\n"
    )
    type_in(text.encode())
    said = json.loads(cli("tok", "encode", "--tokenizer", str(tokenizer_folder), "--json").out)
    assert said == {"tokenizer": str(tokenizer_folder), "ids": ids}


@pytest.fixture
def decoded(tokenizer_folder: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., bytes]:
    """``decoded("72", "105")``: the very bytes that the command prints."""
    from flows.cli import main

    def run(*arguments: str) -> bytes:
        with pytest.raises(SystemExit) as end:
            main(["tok", "decode", *arguments, "--tokenizer", str(tokenizer_folder)])
        said = capsysbinary.readouterr()
        assert end.value.code == 0, said.err
        return bytes(said.out)

    return run


def test_decode_prints_the_very_bytes(decoded: Callable[..., bytes], type_in: TypeIn) -> None:
    assert decoded("240", "159") == b"\xf0\x9f"
    assert decoded("72,105", "[10]") == b"Hi\n"
    assert decoded("299") == b"<|output_end|>"
    type_in(b"72 105\n13,\t10\n")
    assert decoded() == b"Hi\r\n"
    type_in(b"")
    assert decoded() == b""
    assert json.loads(decoded("240", "72", "--json"))["text"] == "\ufffdH"


def test_decode_undoes_encode(decoded: Callable[..., bytes], tokenizer_folder: Path, type_in: TypeIn) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text())
    def check(text: str) -> None:
        type_in(" ".join(map(str, tokenizer.encode(text))).encode())
        assert decoded() == text.encode()

    check()


def test_no_id_controls_the_terminal(
    cli: Cli, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.cli.tok.sys.stdout.isatty", lambda: True, raising=False)
    ended = cli("tok", "decode", "27", "91", "10", "240", "65", "--tokenizer", str(tokenizer_folder))
    assert ended.out == "\\x1b[\n\\xf0A\n"


@pytest.mark.parametrize(
    ("ids", "rc", "said"),
    [
        (("x",), 2, "'x' is no token id"), (("1.5",), 2, "'1.5' is no token id"), (("1e3",), 2, "'1e3'"),
        (("٣",), 2, "is no token id"), (("9" * 11,), 2, "is no token id"),
        (("300",), 3, "token id 300 is not one of the 291 ordinary and 9 special ones"),
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(
    ids: tuple[str, ...], rc: int, said: str, cli: Cli, tokenizer_folder: Path
) -> None:
    ended = cli("tok", "decode", *ids, "--tokenizer", str(tokenizer_folder), rc=rc)
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_what_is_no_text_is_refused(cli: Cli, tokenizer_folder: Path, type_in: TypeIn) -> None:
    type_in(b"ab\xff")
    ended = cli("tok", "encode", "--tokenizer", str(tokenizer_folder), rc=3)
    assert ended.err.startswith("error: stdin is not UTF-8 at byte 2")
    argument = b"\xff".decode("utf-8", errors="surrogateescape")  # how Python has an argument of other bytes
    ended = cli("tok", "encode", argument, "--tokenizer", str(tokenizer_folder), rc=3)
    assert ended.err.count("\n") == 1
    assert "cannot be encoded" in ended.err
