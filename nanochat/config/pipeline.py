"""From a preset and ``--set`` values to the final config of every stage.

Keys without a dot are dials (``depth=4``); keys with one are fields of a stage (``rl.steps=20``).
``evaluate.x`` means all four evaluations, ``eval-rl.x`` one of them. Order: derived rules, then the
preset, then what the user set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from artifacts.errors import UsageError
from nanochat.config.base import Config
from nanochat.config.derive import Dials, derive
from nanochat.presets import PRESETS

EVALS = ("eval-base", "eval-mid", "eval-sft", "eval-rl")


def resolve(preset: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Config]:
    """The validated config of every stage id. UsageError: unknown preset or key, value out of range."""
    return Resolution(preset, overrides or {}).stages


class Resolution:
    """One resolved pipeline: ``dials``, ``stages`` (id -> config) and ``rules`` (dotted path -> why)."""

    def __init__(self, preset: str, overrides: Mapping[str, Any]) -> None:
        if preset not in PRESETS:
            raise UsageError(f"unknown preset {preset!r}", suggestion(preset, PRESETS))
        values = {**PRESETS[preset].values, **{key: parsed(value) for key, value in overrides.items()}}
        types = stage_configs()
        for key in overrides:
            if key in types:
                fields = ", ".join(f"{key}.{field}" for field in types[key].model_fields)
                raise UsageError(f"{key!r} is a stage", f"set one of its fields: {fields}")
        dials = {key: value for key, value in values.items() if "." not in key}
        self.dials: Dials = validated("", Dials, dials)
        try:
            derived = derive(self.dials)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UsageError(f"depth {self.dials.depth}: {said}", "change it with --set") from None
        self.rules = {**derived.rules, **{key: f"preset {preset}" for key in values}}
        self.rules.update({key: "--set" for key in overrides})
        self.stages: dict[str, Config] = {}
        trees = {stage: {} for stage in types}  # type: dict[str, dict[str, Any]]
        for key, value in {**derived.values, **{k: v for k, v in values.items() if "." in k}}.items():
            head, _, path = key.partition(".")
            if head not in types and head != "evaluate":
                raise UsageError(
                    f"unknown key {key!r}", suggestion(head, [*types, "evaluate", *Dials.model_fields])
                )
            for stage in EVALS if head == "evaluate" else (head,):
                _assign(trees[stage], path.split("."), value)
        for stage in EVALS:
            trees[stage].setdefault("stage", stage)
        for stage, config_type in types.items():
            self.stages[stage] = validated(f"{stage}.", config_type, trees[stage])
        self._check_vocabulary()
        self._check_batches()

    def _check_vocabulary(self) -> None:
        tokenizer: Any = self.stages["tokenizer"]
        base: Any = self.stages["base"]
        if tokenizer.vocab_size != base.model.vocab_size:
            raise UsageError(
                f"tokenizer.vocab_size = {tokenizer.vocab_size}, but the model has {base.model.vocab_size}",
                "set both at once: --set vocab_size=N",
            )

    def _check_batches(self) -> None:
        """A step is a whole number of passes; said here, before an hour of other stages is spent."""
        seq_len = self.stages["base"].model.seq_len  # type: ignore[attr-defined]
        for stage in ("base", "mid", "sft"):
            config: Any = self.stages[stage]
            per_pass = config.micro_batch * seq_len * self.dials.nproc
            if config.batch_tokens % per_pass:
                raise UsageError(
                    f"{stage}.batch_tokens = {config.batch_tokens} is not a multiple of {per_pass}",
                    f"micro_batch {config.micro_batch} x seq_len {seq_len} x {self.dials.nproc} processes",
                )


def stage_configs() -> dict[str, type[Config]]:
    """Stage id -> the type of its config, in pipeline order. None of these imports loads torch."""
    from nanochat.stages.base import BaseConfig
    from nanochat.stages.evaluate import EvaluateConfig
    from nanochat.stages.mid import MidConfig
    from nanochat.stages.report import ReportConfig
    from nanochat.stages.rl import RLConfig
    from nanochat.stages.sft import SftConfig
    from nanochat.stages.shards import ShardsConfig
    from nanochat.stages.tokenize import TokenizeConfig
    from nanochat.stages.tokenizer import TokenizerConfig

    return {
        "shards": ShardsConfig, "tokenizer": TokenizerConfig, "tokenize": TokenizeConfig,
        "base": BaseConfig, "eval-base": EvaluateConfig, "mid": MidConfig, "eval-mid": EvaluateConfig,
        "sft": SftConfig, "eval-sft": EvaluateConfig, "rl": RLConfig, "eval-rl": EvaluateConfig,
        "report": ReportConfig,
    }  # fmt: skip


def parsed(value: Any) -> Any:
    """A command-line string as the JSON value it spells (``20``, ``true``, ``[1]``), else the string."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def suggestion(word: str, known: Any) -> str:
    """A did-you-mean for ``word``, or the list of what is known."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def validated(prefix: str, config_type: type[Any], values: dict[str, Any]) -> Any:
    """``config_type(**values)``; the first problem as a UsageError: field, value, bound."""
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = prefix + ".".join(path)
    if first["type"] == "extra_forbidden":
        known = [prefix + ".".join([*path[:-1], field]) for field in _fields_at(config_type, path[:-1])]
        raise UsageError(f"unknown key {name!r}", suggestion(name, known))
    if first["type"] == "missing":
        raise UsageError(f"{name} is not set", f"--set {name}=VALUE")
    said, where = first["msg"], name or prefix.rstrip(".")
    if where:
        raise UsageError(f"{where} = {first['input']!r}: {said}", "change it with --set")
    raise UsageError(said.removeprefix("Value error, "), "change it with --set")


def _fields_at(config_type: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = config_type.model_fields.get(part)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        config_type = field.annotation
    return list(config_type.model_fields)


def _assign(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        child = tree.get(part)
        if not isinstance(child, dict):
            child = tree[part] = {}
        tree = child
    tree[path[-1]] = value
