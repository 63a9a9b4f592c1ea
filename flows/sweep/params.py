"""What a sweep trains: its parameters, and from them one point for each model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from artifacts.errors import UsageError
from artifacts.paths import segment
from artifacts.redact import redact_text
from flows.params import OptionalText, PipelineParams
from nanochat.config.derive import scaling_parameters
from nanochat.config.pipeline import Resolution
from nanochat.model.cost import flops_per_token
from nanochat.presets import PRESETS

Kind = Literal["miniseries", "scaling-laws"]
Depth = Annotated[int, Field(ge=1, le=128)]
Budget = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MIN_STEPS = 10  # whole steps meet a budget within half a step: 5 % at worst
MIN_SIZES = 3  # of one budget: through two points goes every parabola
_ITS_OWN = {"depth": "--depths", "base.steps": "--set tokens_per_parameter, or --flops"}


class SweepParams(BaseModel):
    """Which models to train and compare."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = Field(
        "miniseries", title="Preset", description="Where the text comes from, and all that is not swept.",
        json_schema_extra={"enum": list(PRESETS)},  # choices in the form
    )  # fmt: skip
    kind: Kind = Field(
        "miniseries", title="Kind",
        description="miniseries: each depth with the tokens that suit it; scaling-laws: with each budget.",
    )  # fmt: skip
    depths: list[Depth] = Field(
        min_length=1, max_length=64, title="Depths", description="1 to 128; scaling-laws needs three or more."
    )
    flops_budgets: list[Budget] = Field(
        [], max_length=32, title="FLOPs budgets", description="Of scaling-laws: training FLOPs, e.g. 1e18."
    )
    set: dict[str, Any] = Field(
        {}, title="Overrides", description="Dotted config key -> value, e.g. tokens_per_parameter."
    )
    evaluate: bool = Field(
        False, title="Evaluate", description="Also ask each model the evaluation's questions."
    )
    at_once: int = Field(
        2, ge=1, le=64, title="At once",
        description="Models trained side by side where work pools take them; else they follow each other.",
    )  # fmt: skip
    name: OptionalText = Field("", title="Name", description="Name of the artifacts; default: the preset's.")
    store: OptionalText = Field(
        "", title="Store", description="Store URL or folder; default: $NANOCHAT_STORE."
    )

    @field_validator("depths")
    @classmethod
    def _depths_once(cls, values: list[int]) -> list[int]:
        return _each_once(values, str)

    @field_validator("flops_budgets")
    @classmethod
    def _budgets_once(cls, values: list[float]) -> list[float]:
        return _each_once(values, budget_text)

    @field_validator("store")
    @classmethod
    def _no_credentials(cls, value: str) -> str:
        if urlsplit(value).password is not None:
            raise ValueError("a store URL carries no credentials: put them in the environment")
        return value

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> SweepParams:
        if self.kind == "miniseries" and self.flops_budgets:
            raise ValueError("FLOPs budgets belong to scaling-laws, not to a miniseries")
        if self.kind == "scaling-laws" and not self.flops_budgets:
            raise ValueError("scaling-laws needs FLOPs budgets, for example 1e18")
        if self.kind == "scaling-laws" and len(self.depths) < MIN_SIZES:
            raise ValueError(
                f"scaling-laws needs {MIN_SIZES} depths or more: a parabola goes through any two"
            )
        return self

    @property
    def run_name(self) -> str:
        """The name that every artifact's begins with."""
        return self.name or self.preset

    def pipeline(self) -> PipelineParams:
        """The parameters of what all points share: data and tokenizer, with the pipeline's checks."""
        shared = self.model_dump(include={"preset", "name", "store"})
        return PipelineParams.model_validate({**shared, "set": {**self.set, "depth": min(self.depths)}})


@dataclass(frozen=True)
class Point:
    """One model of a sweep. ``role`` names it within: ``d12``, or ``1e18-d12``."""

    role: str
    depth: int
    budget: float | None
    resolution: Resolution

    @property
    def base(self) -> Any:
        """The config of its training."""
        return self.resolution.stages["base"]

    @property
    def flops(self) -> float:
        """Training FLOPs of its whole steps."""
        return float(flops_per_token(self.base.model) * self.base.steps * self.base.batch_tokens)


def build_sweep_params(**values: Any) -> SweepParams:
    """SweepParams from what was typed. Raises UsageError that names the wrong value."""
    try:
        return SweepParams.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        said, where = first["msg"].removeprefix("Value error, "), ".".join(map(str, first["loc"]))
        value = redact_text(repr(first["input"]))
        raise UsageError(f"{where} = {value}: {said}" if where else said) from None


def points_of(params: SweepParams) -> list[Point]:
    """A point a depth, of each budget in turn. Raises UsageError for what cannot be trained or compared.

    All are measured on the same validation text: as much as the most demanding of them would take.
    """
    for key, instead in _ITS_OWN.items():
        if key in params.set:
            raise UsageError(f"--set {key}: a sweep sets that itself", f"use {instead}")
    budgets: list[float | None] = [*sorted(params.flops_budgets)] or [None]
    points = [_point(params, depth, budget) for budget in budgets for depth in sorted(params.depths)]
    for point in points:
        segment(f"{params.run_name}-{point.role}", "name")
    val_tokens = max(point.base.val_tokens for point in points)
    return [
        replace(point, resolution=_resolved(params, point.depth, point.base.steps, val_tokens))
        for point in points
    ]


def budget_text(budget: float) -> str:
    """``1e18``, ``2.15e18``: as in names."""
    return f"{budget:g}".replace("e+0", "e").replace("e+", "e")


def _point(params: SweepParams, depth: int, budget: float | None) -> Point:
    resolution = Resolution(params.preset, {**params.set, "depth": depth})
    base: Any = resolution.stages["base"]
    if budget is None:
        role, what, asked = f"d{depth}", "tokens_per_parameter", resolution.dials.tokens_per_parameter
        one_step = base.batch_tokens / scaling_parameters(base.model)
    else:
        role, what, asked = f"{budget_text(budget)}-d{depth}", "FLOPs", budget
        one_step = base.batch_tokens * flops_per_token(base.model)
    steps = round(asked / one_step)
    if steps < MIN_STEPS:
        raise UsageError(
            f"{what} {budget_text(asked)}: {steps} steps for depth {depth}, and {MIN_STEPS} are needed",
            f"give it {budget_text(float(f'{MIN_STEPS * one_step:.2g}'))} or more, or leave that depth out",
        )
    return Point(role, depth, budget, _resolved(params, depth, steps, base.val_tokens))


def _resolved(params: SweepParams, depth: int, steps: int, val_tokens: int) -> Resolution:
    decided = {
        "base.steps": steps, "base.eval_every": max(1, steps // 10), "base.val_tokens": val_tokens,
    }  # fmt: skip
    return Resolution(params.preset, {**decided, **params.set, "depth": depth})


def _each_once(values: list[Any], text: Callable[[Any], str]) -> list[Any]:
    said = [text(value) for value in values]
    for name in said:
        if said.count(name) > 1:
            raise ValueError(f"{name} is given twice")
    return values
