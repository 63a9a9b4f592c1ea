"""``nanochat export``: a model or tokenizer as other programs read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from artifacts.errors import UsageError
from flows.cli.chat import CHAT_KINDS
from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json
from flows.settings import Settings
from nanochat.report.formatting import size as size_text

if TYPE_CHECKING:
    from nanochat.export.write import Exported

KINDS = (*CHAT_KINDS, "tokenizer")


def export(
    ref: str,
    /,
    *,
    format: Literal["safetensors", "hf", "tokenizer-json", "tiktoken"],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Write a model or tokenizer to a new folder, in a format that other programs read.

    Its README.md has the lines of Python that load it. transformers' own NanoChat is arch=hf; a model of
    another shape comes with a modelling file, and transformers wants trust_remote_code=True for it.

    Parameters
    ----------
    ref
        The artifact: base, mid, sft, rl, or a tokenizer.
    format
        hf: weights, tokenizer and chat template for transformers; safetensors: the files as they are kept
        here; tokenizer-json: the tokenizer for Hugging Face's tokenizers; tiktoken: its ranks for tiktoken.
    output
        Where to: a folder that is not there yet, or is empty.
    """
    opened = open_store(store)
    found, manifest = opened.resolve(ref)
    if manifest.kind not in KINDS:
        raise UsageError(f"{found} is no model and no tokenizer", f"kinds to export: {', '.join(KINDS)}")
    source = opened.checkout(manifest, Settings().views)

    from nanochat.export.write import export as write

    made = write(source, format, output, name=str(found))
    if json:
        print_json({
            "artifact": str(found), "format": format, "folder": str(output), "bytes": made.bytes,
            "files": list(made.files), "trust_remote_code": bool(made.beyond_stock),
            "beyond_stock": list(made.beyond_stock),
        })  # fmt: skip
    else:
        print(f"{found} is in {output} as {format}, {size_text(made.bytes)}: {' '.join(made.files)}")
        if format == "hf":
            _say_how(made)
    return 0


def _say_how(made: Exported) -> None:
    if not made.beyond_stock:
        print("stock transformers loads it as NanoChatForCausalLM; no code comes with it")
        return
    print(
        "it needs trust_remote_code=True: it comes with a modelling file, as transformers' NanoChat lacks "
        + ", ".join(made.beyond_stock)
    )
