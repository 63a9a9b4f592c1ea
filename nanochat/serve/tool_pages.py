"""Pages to try things out: what a tokenizer makes of a text, and what a model would take and cost."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from artifacts.errors import NanochatError, UsageError
from nanochat.config.pipeline import Resolution
from nanochat.model.estimate import MEMORY_PARTS, RULES_ONLY, SPARE, estimate
from nanochat.model.hardware import GPU, GPUS
from nanochat.presets import PRESETS
from nanochat.serve.catalog import Catalog
from nanochat.serve.templating import page
from nanochat.tokenizer.parts import special_part, text_part, vocabulary_part
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.view_html import fragment

_TOKENIZERS = 50
_LONGEST = 4000
_EXAMPLE = "Hello, world! How many tokens are 12345 and naïve café 🙂 ?"
_LONGEST_FIELD = 40
_DIALS = ("depth", "vocab_size", "seq_len", "micro_batch", "nproc")


def tool_routes(catalog: Catalog) -> APIRouter:
    """These pages over one catalog."""
    routes = APIRouter()

    @routes.get("/tokenizer")
    def tokenizer(
        text: str = _EXAMPLE, ref: str = "", special: bool = False, vocab: bool = False
    ) -> HTMLResponse:
        refs = catalog.tokenizers(_TOKENIZERS)
        chosen = ref or next(iter(refs), "")
        found, wrong = Markup(), None
        if chosen:
            try:
                if len(text) > _LONGEST:
                    raise UsageError(f"a text of {len(text):,} characters", f"at most {_LONGEST:,}")
                found = _tokens(catalog.tokenizer(chosen), text, special=special, vocab=vocab)
            except NanochatError as error:
                wrong = error
        options = list(dict.fromkeys([chosen, *refs])) if chosen else []
        return page(
            "tokenizer.html", text=text, refs=options, chosen=chosen, special=special, vocab=vocab,
            found=found, wrong=wrong, longest=_LONGEST,
        )  # fmt: skip

    @routes.get("/calculator")
    def calculator(
        preset: str = "d12", gpu: str = "h100", mfu: str = "", price: str = "",
        depth: str = "", vocab_size: str = "", seq_len: str = "", micro_batch: str = "", nproc: str = "",
    ) -> HTMLResponse:  # fmt: skip
        dials = dict(zip(_DIALS, (depth, vocab_size, seq_len, micro_batch, nproc), strict=True))
        found, wrong = None, None
        try:
            found = calculated(preset, gpu, mfu, price, dials)
        except NanochatError as error:
            hint = "" if "--set" in error.hint else error.hint  # a page has no options
            wrong = NanochatError(error.message, hint)
        return page(
            "calculator.html", presets=PRESETS, gpus=GPUS, rules_only=RULES_ONLY,
            parts=MEMORY_PARTS, spare=SPARE,
            asked={"preset": preset, "gpu": gpu, "mfu": mfu, "price": price, **dials},
            found=found, wrong=wrong,
        )  # fmt: skip

    return routes


def calculated(preset: str, gpu: str, mfu: str, price: str, dials: dict[str, str]) -> dict[str, Any]:
    """What ``nanochat calc`` says, of fields as they were typed; UsageError names the wrong one."""
    typed = {"preset": preset, "gpu": gpu, "mfu": mfu, "price": price, **dials}
    if (long := next((name for name, text in typed.items() if len(text) > _LONGEST_FIELD), None)) is not None:
        raise UsageError(f"{long} has {len(typed[long]):,} characters", f"at most {_LONGEST_FIELD}")
    if gpu not in GPUS:
        raise UsageError(f"unknown GPU {gpu!r}", f"one of {', '.join(GPUS)}")
    card: GPU = GPUS[gpu]
    if price.strip():
        card = replace(card, dollars_per_hour=_number("the price", price, 1e6))
    values = {name: value.strip() for name, value in dials.items() if value.strip()}
    share = _number("the share of the peak", mfu, 1) if mfu.strip() else 0.5
    return estimate(Resolution(preset, values), card, share)


def _number(what: str, text: str, most: float) -> float:
    """A number above 0 and at most ``most``."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= most:
        raise UsageError(f"{what} is {text.strip()!r}", f"a number above 0 and at most {most:g}")
    return value


def _tokens(folder: Path, text: str, *, special: bool, vocab: bool) -> Markup:
    tokenizer = _opened(folder)
    parts = [text_part(tokenizer, text.replace("\r\n", "\n"))]
    parts += [special_part(tokenizer)] * special + [vocabulary_part(tokenizer)] * vocab
    return Markup(fragment(parts))  # noqa: S704 -- it escapes what it shows


@functools.lru_cache(maxsize=4)
def _opened(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)
