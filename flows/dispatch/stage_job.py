"""One stage to build, by refs: what a run on one work pool hands to a run on another."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from artifacts.errors import UsageError
from artifacts.store import Store
from flows.build import Builder, Work
from flows.dag import stage_by_id
from flows.identity import stage_recipe
from flows.result import StageResult
from flows.settings import Settings


class StageJob(BaseModel):
    """All that it takes to build a stage wherever the store can be reached. A child run's only parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = Field(description="Stage id, for example base.")
    name: str = Field(description="Name under which the artifact is published.")
    run_name: str = Field(description="Name of the run that asks.")
    fingerprint: str = Field(description="What the asking run calls this work; other code gives another.")
    store: str = Field(description="URL or folder of the store.")
    config: dict[str, Any] = Field(description="The stage's whole config.")
    inputs: dict[str, StageResult] = Field(description="Role -> finished artifact.")
    ranks: int = Field(1, ge=1, description="Processes of a stage that torchrun starts, on all nodes.")
    depth: int = Field(0, description="Of the model; for names.")
    overlap: bool = Field(False, description="Another stage may run beside it.")
    force: bool = Field(False, description="Build it again although it is there.")
    origin: dict[str, str] = Field({}, description="What the artifact's provenance says of the run.")
    parent: str = Field("", description="Id of the flow run that asks; the child ends with it.")

    @classmethod
    def of(cls, builder: Builder, work: Work, parent: str) -> StageJob:
        """The job that builds ``work``, a stage of the pipeline, for the flow run ``parent``."""
        assert work.name, "a part of a stage is built where the stage is"
        return cls(
            stage=work.stage.id, name=work.name, run_name=builder.name, fingerprint=work.fingerprint,
            store=builder.store.backend.url, config=work.config.model_dump(mode="json"),
            inputs=dict(work.inputs), ranks=builder.ranks, depth=builder.depth, overlap=builder.overlap,
            force=work.stage.id in builder.forced, origin=dict(builder.origin),
            parent=parent,
        )  # fmt: skip

    def opened(self) -> tuple[Builder, Work]:
        """Who builds it here, and what. UsageError if the code here is not the code of the run that asks."""
        from nanochat.config.pipeline import stage_configs, validated

        stage = stage_by_id(self.stage)
        config = validated(f"{stage.id}.", stage_configs()[stage.id], self.config)
        recipe = stage_recipe(stage, config, {role: made.digest for role, made in self.inputs.items()})
        work = Work(stage, config, self.inputs, self.name, recipe)
        if work.fingerprint != self.fingerprint:
            raise UsageError(
                f"stage {stage.id} has fingerprint {work.fingerprint[:12]} here and"
                f" {self.fingerprint[:12]} where it was asked for: the code differs",
                "give all workers the same commit, and NANOCHAT_DATA_MIRROR to all or none",
            )
        here = Settings().model_copy(update={"pools": {}})
        builder = Builder(
            store=Store.open(self.store, create=False), settings=here, configs={stage.id: config},
            name=self.run_name, ranks=self.ranks, overlap=self.overlap, depth=self.depth,
            forced=frozenset({stage.id} if self.force else ()), origin=self.origin,
        )  # fmt: skip
        return builder, work
