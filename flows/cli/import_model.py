"""``nanochat import``: a checkpoint that nanochat made becomes an artifact."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from artifacts.atomic import TEMPORARY_PREFIX, disk_errors, make_directories
from artifacts.errors import UsageError
from artifacts.store import Store
from flows.adopt import adopt
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json
from flows.settings import Settings
from nanochat.report.formatting import size as size_text

WARNING = """\
warning: {model} and {tokenizer} are pickles, a format that can carry programs. Nothing but tensors and a
tiktoken encoding is read from them, and all else is refused; still, import only what you trust."""


def import_model(
    folder: Path,
    /,
    *,
    name: str,
    kind: Literal["base", "sft"] = "base",
    step: int | None = None,
    tokenizer: Path | None = None,
    allow_pickle: Annotated[bool, Parameter(negative="")] = False,
    force: bool = False,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Store a checkpoint that nanochat made (model_*.pt, meta_*.json, tokenizer.pkl) as an artifact.

    Two models of nanochat are known: that of July 2026 (92d63d4) and that of December 2025 (arch=hf); what is
    neither is refused. The optimizer's state stays behind.

    Parameters
    ----------
    folder
        Where model_*.pt and meta_*.json are, for example ~/.cache/nanochat/base_checkpoints/d12.
    name
        Of the artifact: KIND/NAME.
    kind
        base: pretrained on text; sft: fine-tuned for chat (nanochat's chatsft_checkpoints).
    step
        Which checkpoint; default: the last one.
    tokenizer
        nanochat's tokenizer.pkl; default: the one in the folder, or where nanochat keeps it.
    allow_pickle
        Read the pickles, in a restricted way; without, the command only says which it would read.
    force
        Store it again although it is there already: mends what is damaged.
    """
    from nanochat.export.upstream import convert, find

    checkpoint = find(folder, step, tokenizer)
    if not allow_pickle:
        raise UsageError(
            f"{checkpoint.model} and {checkpoint.tokenizer} are pickles, which can carry programs",
            "if you trust who made them: --allow-pickle; then only tensors and a tiktoken encoding are read",
        )
    print(WARNING.format(model=checkpoint.model.name, tokenizer=checkpoint.tokenizer.name), file=sys.stderr)
    opened = Store.open(store or "")
    make_directories(home := Settings().home)
    with tempfile.TemporaryDirectory(dir=home, prefix=TEMPORARY_PREFIX) as temporary, disk_errors(home):
        shape = convert(checkpoint, Path(temporary), kind=kind)
        ref, manifest = adopt(opened, f"{kind}/{name}", Path(temporary), force=force)
    if json:
        print_json({
            "artifact": str(ref), "digest": manifest.digest, "bytes": manifest.total_bytes,
            "step": checkpoint.step, "config": shape.model_dump(),
        })  # fmt: skip
        return 0
    print(f"{ref} is step {checkpoint.step} of {folder}, {size_text(manifest.total_bytes)}")
    print(f'talk to it: nanochat chat {ref} -p "Why is the sky blue?"')
    return 0
