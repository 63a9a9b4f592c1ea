"""``nanochat chat``: talk to a model; tool calls are shown as the model wrote them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from artifacts.errors import ResourceError, UsageError
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows.cli.opening import open_store
from flows.cli.options import StoreUrl
from flows.history import last_runs
from flows.settings import Settings

if TYPE_CHECKING:
    from nanochat.engine.chat import ChatSession
    from nanochat.engine.sampling import Sampling

CHAT_KINDS = ("rl", "sft", "mid", "base")


def chat(
    ref: str | None = None,
    /,
    *,
    prompt: Annotated[str | None, Parameter(name=["-p", "--prompt"])] = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    max_tokens: int = 256,
    seed: int = 0,
    store: StoreUrl = None,
) -> int:
    """Talk to a model.

    Parameters
    ----------
    ref
        The model, for example sft/demo@v1; default: the furthest trained one of the last run.
    prompt
        Ask this and exit.
    temperature
        0 takes the likeliest token each time.
    top_k
        Choose among the k likeliest tokens.
    top_p
        Choose among the likeliest tokens that together have this share.
    min_p
        Choose among tokens with at least this share of the likeliest one's probability.
    repetition_penalty
        More than 1 makes tokens that were said before less likely.
    max_tokens
        The longest answer.
    seed
        Of the sampling.
    """
    for option, value, least, most in (
        ("--temperature", temperature, 0, inf),
        ("--top-k", top_k, 1, inf),
        ("--top-p", top_p, 0.001, 1),
        ("--min-p", min_p, 0, 1),
        ("--repetition-penalty", repetition_penalty, 0.1, 10),
        ("--max-tokens", max_tokens, 1, inf),
    ):
        if value is not None and not least <= value <= most:
            range_ = f"at least {least}" if most == inf else f"from {least} to {most}"
            raise UsageError(f"{option} {value}", range_)
    opened = open_store(store)
    found, manifest = opened.resolve(ref or last_chat_model(opened, Settings().runs))
    if manifest.kind not in CHAT_KINDS:
        raise UsageError(f"{found} is no model", f"kinds that chat: {', '.join(CHAT_KINDS)}")
    if ref is None:
        print(f"{found}", file=sys.stderr)
    folder = opened.checkout(manifest, Settings().views)

    from nanochat.engine.chat import ChatSession
    from nanochat.engine.sampling import Sampling

    session = ChatSession.open(folder)
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    for text in [prompt] if prompt is not None else _typed():
        _answer(session, text, max_tokens, sampling, seed)
    return 0


def last_chat_model(store: Store, runs: Path) -> str:
    """The chat model that the newest run into this store published. Raises ResourceError if there is none."""
    if (found := last_published(store, runs, CHAT_KINDS)) is None:
        raise ResourceError("no model was trained here yet", "nanochat run demo trains one")
    return found


def last_published(store: Store, runs: Path, stages: Sequence[str]) -> str | None:
    """What the first of these stages published in the newest run of one into this store; None if none did."""
    for run in last_runs(runs):
        published = {stage["stage"]: stage for stage in run["stages"]}
        for stage in stages:
            if stage in published and _holds(store, published[stage]):
                return str(published[stage]["artifact"])
    return None


def _holds(store: Store, stage: dict[str, Any]) -> bool:
    version = store.names.version(ArtifactRef.parse(stage["artifact"]))
    return version is not None and version.pointer.digest == stage["digest"]


def _answer(session: ChatSession, text: str, max_tokens: int, sampling: Sampling, seed: int) -> None:
    from nanochat.engine.chat import readable

    for part in readable(session.ask(text, max_tokens=max_tokens, sampling=sampling, seed=seed)):
        print(part, end="", flush=True)
    print()


def _typed() -> Iterator[str]:
    """Lines from the terminal until end of input; empty ones are passed over."""
    if sys.stdin.isatty():
        print("Write to the model; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if text.strip():
            yield text
