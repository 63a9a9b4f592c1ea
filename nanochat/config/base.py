"""The base of every configuration: frozen, strict pydantic models that know which fields are identity.

A field made with ``runtime_field`` (device, worker counts, log cadence, …) never changes what a
stage produces, so it stays out of the fingerprint.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Dtype = Literal["auto", "float32", "bfloat16", "float16"]  # what matmuls compute in; auto asks the hardware


class Config(BaseModel):
    """Base model: unknown keys are refused, values cannot change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    def identity(self) -> dict[str, Any]:
        """The JSON values that decide what is produced; runtime fields are left out, recursively."""
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("identity") is False:
                continue
            values[name] = _identity_of(getattr(self, name))
        return values


def _identity_of(value: Any) -> Any:
    if isinstance(value, Config):
        return value.identity()
    if isinstance(value, dict):
        return {key: _identity_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity_of(item) for item in value]
    return value


def runtime_field(default: Any, **kwargs: Any) -> Any:
    """A field that is not identity: it may change how a stage runs, never what it makes."""
    return Field(default, json_schema_extra={"identity": False}, **kwargs)
