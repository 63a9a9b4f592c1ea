"""``nanochat tok eval`` and ``compare``: how many tokens a text becomes, with which tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from artifacts.errors import DataError
from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json
from flows.cli.tok_open import Opened, TokenizerPath, of_artifact, open_tokenizer
from flows.cli.tok_show import show

if TYPE_CHECKING:
    from nanochat.tokenizer.comparison import Comparison
    from nanochat.tokenizer.inspection import Compression

MEASURED = ("train", "val")  # the texts of compression.json that are not among the samples

Files = Annotated[
    list[Path] | None,
    Parameter(name="--file", negative="", help="Also this text or .parquet file; may be repeated."),
]


def evaluate(
    ref: str | None = None,
    /,
    *,
    files: Files = None,
    tokenizer: TokenizerPath = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Measure how well a tokenizer compresses news, code, maths and Korean, beside GPT-2 and cl100k.

    Of an artifact of the pipeline, what it was when it was trained is shown too: on the beginning of its
    training and validation text.

    Parameters
    ----------
    ref
        The tokenizer, or a model; default: the tokenizer of the last run.
    """
    from nanochat.tokenizer.comparison import compare as compare_tokenizers

    opened = open_tokenizer(ref, tokenizer, store)
    found = compare_tokenizers({opened.name: opened.tokenizer.encode}, _texts(files, None))
    _print(found.with_rows(_measured(opened)), json)
    return 0


def compare(
    *refs: str,
    text: str | None = None,
    files: Files = None,
    tokenizers: Annotated[
        list[Path] | None,
        Parameter(name="--tokenizer", negative="", help="A tokenizer.json or its folder; may be repeated."),
    ] = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Compare tokenizers over the same texts, with those of GPT-2 and cl100k where tiktoken has them here.

    Parameters
    ----------
    refs
        Tokenizers, or models; default: the tokenizer of the last run.
    text
        Over this text; default: samples of news, code, maths and Korean.
    """
    from nanochat.tokenizer.comparison import compare as compare_tokenizers

    opened = [open_tokenizer(None, path, store) for path in tokenizers or ()]
    if refs:
        place = open_store(store)
        opened = [*(of_artifact(place, ref) for ref in refs), *opened]
    opened = opened or [open_tokenizer(None, None, store)]
    encoders = {one.name: one.tokenizer.encode for one in opened}
    _print(compare_tokenizers(encoders, _texts(files, text)), json)
    return 0


def _texts(files: Iterable[Path] | None, text: str | None) -> dict[str, str]:
    """Label -> text: the files and the text; without both, the samples. With files only, the samples too."""
    from nanochat.tokenizer.inspection import SAMPLES, SHARD_SAMPLE_CHARS
    from nanochat.tokenizer.text_files import read_files
    from nanochat.tokenizer.training import capped

    texts = dict(SAMPLES) if text is None else {text: text}
    for file in files or ():
        texts[str(file)] = "".join(capped(read_files([file]), SHARD_SAMPLE_CHARS, SHARD_SAMPLE_CHARS))
    return texts


def _measured(opened: Opened) -> list[Compression]:
    """What the stage that trained it measured on its own text; nothing if it kept no record."""
    from nanochat.tokenizer.inspection import Compression

    record = opened.folder / "compression.json" if opened.folder else None
    if record is None or not record.is_file():
        return []
    try:
        rows = loads(record.read_bytes())["rows"]
        return [
            Compression(opened.name, row["text"], row["bytes"], row["tokens"])
            for row in rows
            if row["text"] in MEASURED
        ]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{opened.name}: compression.json has no rows of text, bytes and tokens") from None


def _print(found: Comparison, as_json: bool) -> None:
    from nanochat.tokenizer.parts import comparison_part

    part = comparison_part(found)
    if as_json:
        print_json(part.value)
    else:
        show(part)
