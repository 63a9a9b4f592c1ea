"""The one parameter of the pipeline: the same object whether the Prefect UI or the command line fills it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from artifacts.errors import UsageError
from artifacts.redact import redact_text
from flows.dag import STAGE_IDS, expand, stage_by_id
from flows.suggest import unknown
from nanochat.presets import PRESETS

StageId = Literal[
    "shards", "tokenizer", "tokenize", "base", "eval-base", "mid", "eval-mid",
    "sft", "eval-sft", "rl", "eval-rl", "report",
]  # fmt: skip
Forced = StageId | Literal["evaluate", "fetch-shard", "tokenize-shard"]
# In the form a text that may be left empty is a field; "str | None" would be a switch that hides one.
OptionalText = Annotated[str, BeforeValidator(lambda value: value or "")]
LastStage = Annotated[StageId, BeforeValidator(lambda value: value or "report")]

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


class PipelineParams(BaseModel):
    """Which model to make, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = Field(
        "demo", title="Preset", description="Names a depth and a data source; see `nanochat presets`.",
        json_schema_extra={"enum": list(PRESETS)},  # choices in the form
    )  # fmt: skip
    set: dict[str, Any] = Field(
        {}, title="Overrides", description="Dotted config key -> value, e.g. base.steps."
    )
    name: OptionalText = Field("", title="Name", description="Name of the artifacts; default: the preset's.")
    store: OptionalText = Field(
        "", title="Store", description="Store URL or folder; default: $NANOCHAT_STORE."
    )
    until: LastStage = Field("report", title="Until", description="Last stage to run.")
    force: list[Forced] = Field(
        [], title="Force", description="Stages to build again although they are cached."
    )
    reuse: dict[StageId, str] = Field(
        {}, title="Reuse", description="Stage -> ref of an artifact to take although its code changed."
    )

    @field_validator("store")
    @classmethod
    def _no_credentials(cls, value: str) -> str:
        if urlsplit(value).password is not None:
            raise ValueError("a store URL carries no credentials: put them in the environment")
        return value

    @property
    def run_name(self) -> str:
        """The name under which every stage publishes."""
        return self.name or self.preset

    @property
    def forced(self) -> frozenset[str]:
        """Stage ids to rebuild, groups expanded."""
        return frozenset(expand(list(self.force)))


def build_params(
    preset: str,
    *,
    overrides: list[str],
    name: str | None = None,
    store: str | None = None,
    until: str | None = None,
    force: list[str] | None = None,
    reuse: list[str] | None = None,
) -> PipelineParams:
    """PipelineParams from what was typed. Raises UsageError that names the wrong word."""
    expand(list(force or []))
    if until:
        stage_by_id(until)
    values = {
        "preset": preset, "set": parse_overrides(overrides), "name": name, "store": store,
        "until": until, "force": force or [], "reuse": parse_reuse(reuse or []),
    }  # fmt: skip
    try:
        return PipelineParams.model_validate(values)
    except ValueError as error:
        raise UsageError(_first_line(error)) from None


def parse_overrides(items: list[str]) -> dict[str, Any]:
    """``["base.steps=20"]`` -> ``{"base.steps": 20}``; a value is JSON if it parses, else the text itself.

    Raises UsageError for a missing ``=``, a malformed key, or a key given twice.
    """
    values: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise UsageError(f"--set {item!r}", "write --set key=value, for example --set base.steps=20")
        if key in values:
            raise UsageError(f"--set {key} is given twice", "keep one of them")
        values[key] = _json_or_text(text)
    return values


def parse_reuse(items: list[str]) -> dict[str, str]:
    """``["base=base/demo@v2", "rl"]`` -> stage id -> ref, empty where the newest is meant."""
    reuse: dict[str, str] = {}
    for item in items:
        stage_id, _, ref = item.partition("=")
        if stage_id not in STAGE_IDS:
            raise unknown("stage", stage_id, STAGE_IDS)
        reuse[stage_id] = ref
    return reuse


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _first_line(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    where, value = ".".join(str(part) for part in first["loc"]), redact_text(repr(first.get("input")))
    return f"{where} = {value}: {first['msg'].removeprefix('Value error, ')}"
