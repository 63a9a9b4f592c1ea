"""Where a stage runs: what it needs against what the work pools offer. Nothing here imports Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple

from pydantic import BaseModel, ConfigDict, Field

from artifacts.errors import ResourceError
from flows.dag import Needs, Stage


class Offer(BaseModel):
    """What one stage can have on a machine of a work pool."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus: int = Field(ge=0)
    cpus: int = Field(ge=1)
    memory_gb: int = Field(ge=1)


def needs_of(stage: Stage, ranks: int) -> Needs:
    """What all processes of a stage take together."""
    processes = ranks if stage.torchrun else 1
    gpus, cpus, memory_gb = (processes * each for each in astuple(stage.needs))
    return Needs(gpus, cpus, memory_gb)


def pool_for(stage: Stage, ranks: int, pools: Mapping[str, Offer]) -> str | None:
    """The smallest work pool that has what a stage needs; None: the flow's own process runs it.

    That is so for stages without GPUs, and wherever no pools are set. ResourceError if none is big enough.
    """
    needs = needs_of(stage, ranks)
    if not pools or not needs.gpus:
        return None
    by_size = sorted(pools.items(), key=lambda item: (item[1].gpus, item[1].cpus, item[1].memory_gb))
    for name, offer in by_size:
        if needs.gpus <= offer.gpus and needs.cpus <= offer.cpus and needs.memory_gb <= offer.memory_gb:
            return name
    there = "; ".join(f"{name}: {_text(offer)}" for name, offer in by_size)
    raise ResourceError(
        f"no work pool offers what stage {stage.id} needs: {_text(needs)}", f"NANOCHAT_POOLS has {there}"
    )


def _text(what: Needs | Offer) -> str:
    return f"{what.gpus} GPUs, {what.cpus} CPUs, {what.memory_gb} GB"
