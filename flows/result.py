"""What a stage hands to the next one: a small plain reference, never the artifact itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from artifacts.manifest import Manifest
from artifacts.names import Pointer
from flows.headline import headline


class StageResult(BaseModel):
    """A stage's artifact and how it was come by. Crosses Prefect as ``model_dump()``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    status: Literal["ran", "cached"]
    artifact: str = Field("", description="kind/name@vN; empty for a part that has no name")
    digest: str
    manifest: str
    seconds: float
    metrics: dict[str, float | int | str] = {}
    key_metric: str = ""
    note: str = ""
    drifted: list[str] = Field([], description="refs of --reuse that this rests on")

    @property
    def pointer(self) -> Pointer:
        """Where the store has the manifest."""
        return Pointer(self.stage, self.manifest, self.digest)

    @property
    def headline(self) -> str:
        """The number that matters most, as text; empty if the stage has none."""
        return headline(self.metrics, self.key_metric)

    def line(self) -> dict[str, Any]:
        """The object that ``run --json`` prints."""
        return self.model_dump(include={"stage", "status", "artifact", "digest", "seconds", "metrics"})


def result_of(
    manifest: Manifest,
    status: Literal["ran", "cached"],
    artifact: str,
    *,
    seconds: float,
    note: str = "",
    drifted: list[str] | None = None,
) -> StageResult:
    """The result that stands for a stored artifact."""
    return StageResult(
        stage=manifest.stage, status=status, artifact=artifact, digest=manifest.digest,
        manifest=manifest.hex, seconds=round(seconds, 3), metrics=dict(manifest.metrics),
        key_metric=manifest.key_metric, note=note, drifted=drifted or [],
    )  # fmt: skip
