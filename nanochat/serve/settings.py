"""What whoever runs the server can set: ``NANOCHAT_API_KEYS``, and ``NANOCHAT_SERVE_…`` for the rest."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from artifacts.errors import UsageError

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ServeSettings(BaseSettings):
    """Keys, limits and times. The first limits are those of nanochat's own server."""

    model_config = SettingsConfigDict(
        env_prefix="NANOCHAT_SERVE_", env_ignore_empty=True, extra="ignore", frozen=True,
        populate_by_name=True,
    )  # fmt: skip

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), validation_alias="NANOCHAT_API_KEYS", repr=False,
        description="Keys, with commas between. Once there is one, only /healthz and /readyz answer without.",
    )  # fmt: skip
    max_messages: Count = 500
    max_message_chars: Count = 8_000
    max_total_chars: Count = 32_000
    body_bytes: Count = Field(default=1 << 20, description="The largest request, as it comes over the wire.")
    requests_per_minute: int = Field(
        default=120, ge=0, description="Answers that one key, or one address, may ask for; 0: any number."
    )
    slots: Count = Field(default=16, description="Answers of one model that are written at once.")
    queue: int = Field(default=64, ge=0, description="Requests of one model that may wait for a slot.")
    queue_wait_s: Seconds = Field(default=10.0, description="How long one may wait before it is refused.")
    request_s: Seconds = Field(default=60.0, description="After so long an answer ends where it is.")
    weights: Literal["float32", "float16", "bfloat16", "int8"] | None = Field(
        default=None, description="How matrices are kept; default: the fastest format of the machine."
    )
    models: Count = Field(default=3, description="Models in memory at once.")
    idle_s: Seconds = Field(default=600.0, description="A model that nobody asked for so long is dropped.")
    drain_s: Seconds = Field(default=30.0, description="What an answer has to end in after SIGTERM.")
    log_conversations: bool = Field(default=False, description="Put questions and answers into the log.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).upper().removeprefix("NANOCHAT_")
            name = "NANOCHAT_API_KEYS" if "API_KEYS" in name else f"NANOCHAT_SERVE_{name}"
            said = "" if "API_KEYS" in name else f" = {first['input']!r}"
            raise UsageError(f"{name}{said}: {first['msg']}", "change or unset it") from None

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        keys = tuple(filter(None, map(str.strip, value.split(","))))
        if value and not keys:  # whoever sets it wants keys
            raise ValueError("it is set, and names no key")
        return keys

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key for key in value):
            raise ValueError("a key has at least 8 visible ASCII characters")
        return value


def check_host(host: str, settings: ServeSettings) -> None:
    """UsageError for an address that lets other machines in while nobody needs a key."""
    if not is_loopback(host) and not settings.api_keys:
        hint = "set NANOCHAT_API_KEYS, or listen on 127.0.0.1"
        raise UsageError(f"--host {host} lets other machines in, and no API key is set", hint)


def is_loopback(host: str) -> bool:
    """True for a name or address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
