"""An artifact's recipe in plain words: what made it, from what, with which settings, on what."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from artifacts.manifest import Manifest
from flows.dag import STAGE_IDS, stage_by_id
from nanochat.config.pipeline import stage_configs


def why(ref: str, manifest: Manifest) -> dict[str, Any]:
    """``{"artifact", "stage", "does", "inputs", "config", ..., "rebuild"}``, JSON-able.

    ``config``: ``{"name", "value", "meaning"}`` of every field, nested ones with dots. ``rebuild`` is the
    command that makes it again, None for what no stage made.
    """
    provenance, known = manifest.provenance, manifest.stage in STAGE_IDS and "config" in manifest.recipe
    config = manifest.recipe.get("config", {})
    return {
        "artifact": ref, "stage": manifest.stage, "does": _purpose(manifest.stage) if known else "",
        "made": manifest.created, "command": provenance.command,
        "commit": provenance.commit, "changed": provenance.dirty is not None,
        "inputs": [
            {"role": parent.role, "artifact": parent.ref, "digest": parent.digest}
            for parent in manifest.parents
        ],
        "config": list(_fields(stage_configs()[manifest.stage] if known else None, config)),
        "hardware": provenance.hardware.model_dump(mode="json"), "versions": provenance.versions,
        "settings": provenance.settings, "metrics": manifest.metrics, "key_metric": manifest.key_metric,
        "rebuild": f"nanochat art reproduce {ref}" if known else None,
    }  # fmt: skip


def _purpose(stage: str) -> str:
    """The first line of the stage's program."""
    text = importlib.import_module(stage_by_id(stage).module).__doc__ or ""
    return text.splitlines()[0].removeprefix(f"Stage ``{stage}``: ")


def _fields(
    model: type[BaseModel] | None, values: Mapping[str, Any], prefix: str = ""
) -> Iterator[dict[str, Any]]:
    for name, value in values.items():
        field = model.model_fields.get(name) if model else None
        inner = field.annotation if field else None
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, value, f"{prefix}{name}.")
        else:
            meaning = (field.description if field else None) or ""
            yield {"name": prefix + name, "value": value, "meaning": meaning}
