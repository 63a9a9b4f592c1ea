"""``nanochat tok train``, ``encode`` and ``decode``: a tokenizer without the pipeline."""

from __future__ import annotations

import re
import shutil
import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from artifacts.atomic import disk_errors, publish_directory, temporary_name
from artifacts.errors import UsageError
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json
from flows.cli.tok_open import Ref, TokenizerPath, open_tokenizer, text_or_stdin

if TYPE_CHECKING:
    from nanochat.tokenizer.tokenizer import Tokenizer

_ID = re.compile(r"[0-9]{1,10}")


def train(
    *files: Path,
    vocab_size: int,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    max_chars: int | None = None,
    threads: int = 0,
    json: Json = False,
) -> int:
    """Train a tokenizer on files of text, without the pipeline.

    Parameters
    ----------
    files
        Text in UTF-8, or Parquet (.parquet) with a column text.
    vocab_size
        Number of ids, the 256 bytes and 9 special tokens included.
    output
        A new folder; nanochat art adopt tokenizer/NAME FOLDER makes it an artifact.
    max_chars
        Train on at most this many characters; default: all.
    threads
        Threads that count words; 0: one for each processor.
    """
    from nanochat.tokenizer.text_files import read_files
    from nanochat.tokenizer.training import capped, train_on_texts

    if not files:
        raise UsageError("no file to train on", "nanochat tok train FILE... --vocab-size 4096 -o FOLDER")
    for option, value, least in (("--max-chars", max_chars, 1), ("--threads", threads, 0)):
        if value is not None and value < least:
            raise UsageError(f"{option} {value}", f"at least {least}")
    if output.exists():
        raise UsageError(f"{output} exists", "name a new folder")
    texts = read_files(files)
    if max_chars is not None:
        texts = capped(texts, max_chars, max_chars)
    tokenizer = train_on_texts(texts, vocab_size, threads)
    _save(tokenizer, output)
    if json:
        print_json({"folder": str(output), "vocab_size": tokenizer.vocab_size})
    else:
        print(f"{output}: {tokenizer.vocab_size:,} ids. Look inside: nanochat tok view --tokenizer {output}")
    return 0


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    """What the stage ``tokenizer`` writes, in a new folder that appears when it is whole."""
    from nanochat.tokenizer.inspection import SAMPLES, compression_of

    rows = [row.as_dict() for row in compression_of(tokenizer, SAMPLES)]
    temporary = folder.absolute().parent / temporary_name()
    try:
        with disk_errors(folder):
            temporary.mkdir(parents=True)
            tokenizer.save(temporary)
            text = dumps({"schema": 1, "rows": rows}, indent=1)
            (temporary / "compression.json").write_text(text + "\n", encoding="utf-8")
        publish_directory(temporary, folder.absolute())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def encode(
    text: str | None = None,
    /,
    *,
    ref: Ref = None,
    tokenizer: TokenizerPath = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Print the token ids of a text. What spells a special token stays text.

    Parameters
    ----------
    text
        The text; default: all of stdin, its last line end included.
    """
    opened = open_tokenizer(ref, tokenizer, store)
    ids = opened.tokenizer.encode(text_or_stdin(text))
    if json:
        print_json({"tokenizer": opened.name, "ids": ids})
    else:
        print(*ids)
    return 0


def decode(
    *ids: str,
    ref: Ref = None,
    tokenizer: TokenizerPath = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Print the text of token ids: its very bytes, but on a terminal, where what is no text is escaped.

    Parameters
    ----------
    ids
        The ids, separated by spaces or commas; default: those in stdin.
    """
    opened = open_tokenizer(ref, tokenizer, store)
    data = opened.tokenizer.decode_bytes(_numbers(" ".join(ids) if ids else text_or_stdin(None)))
    if json:
        text = data.decode(errors="replace")
        print_json({"tokenizer": opened.name, "text": text, "bytes": data.hex()})
    elif sys.stdout.isatty():
        from nanochat.tokenizer.view import visible

        print("\n".join(visible(line, space=" ") for line in data.split(b"\n")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0


def _numbers(text: str) -> list[int]:
    words = re.findall(r"[^\s,\[\]]+", text)
    for word in words:
        if not _ID.fullmatch(word):
            raise UsageError(
                f"{word[:60]!r} is no token id", "write numbers, as nanochat tok encode prints them"
            )
    return [int(word) for word in words]
