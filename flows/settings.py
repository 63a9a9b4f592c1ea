"""Where things live and what the environment says. Nothing here imports Prefect."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from artifacts.errors import UsageError
from artifacts.paths import home
from flows.dispatch.pools import Offer

PROJECT_ROOT = Path(__file__).resolve().parents[1]

PREFECT_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}
_QUIET = {
    # Only the console: what a server stores stays complete.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


class Settings(BaseSettings):
    """``NANOCHAT_HOME``, ``_WEB_URL``, ``_POOLS``, ``_FAN_OUT``, ``_STAGE_TIMEOUT_S``; a store its own."""

    model_config = SettingsConfigDict(
        env_prefix="NANOCHAT_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path = Field(default_factory=home, description="Folder of everything that is kept on this machine.")
    web_url: str = Field(default="", description="Address of the web app, for links to artifacts.")
    pools: dict[str, Offer] = Field(
        default={}, description="Work pools for stages that need GPUs, and what each offers; none: run here."
    )
    fan_out: str = Field(
        default="",
        description="Cluster for downloads, shards and evaluations: dask, ray or an address; none: here.",
    )
    stage_timeout_s: float | None = Field(default=None, gt=0, description="Stop a stage that takes longer.")
    hang_s: float = Field(default=600.0, gt=0, description="A rank that makes no step for so long hangs.")

    def __init__(self) -> None:
        try:
            super().__init__()
        except ValidationError as error:
            first = error.errors()[0]
            name = f"NANOCHAT_{str(first['loc'][0]).upper()}"
            raise UsageError(f"{name} = {first['input']!r}: {first['msg']}", "change or unset it") from None
        except SettingsError:  # of several fields, only this one is JSON
            said = os.environ.get("NANOCHAT_POOLS")
            hint = 'write for example {"gpu": {"gpus": 8, "cpus": 64, "memory_gb": 512}}'
            raise UsageError(f"NANOCHAT_POOLS = {said!r} is no JSON", hint) from None

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # stages run in another folder

    @property
    def views(self) -> Path:
        """Read-only checkouts of artifacts."""
        return self.home / "views"

    @property
    def runs(self) -> Path:
        """One JSON file a run: what was asked for and what came of it."""
        return self.home / "runs"

    @property
    def reports(self) -> Path:
        """The newest report of each name, at a path that stays."""
        return self.home / "reports"


def prepare_prefect_environment(environ: MutableMapping[str, str] = os.environ, *, quiet: bool) -> None:
    """Set what Prefect reads at import, without overriding the user. Call before importing it."""
    for key, value in {**PREFECT_DEFAULTS, **(_QUIET if quiet else {})}.items():
        environ.setdefault(key, value)


def prefect_server_is_configured() -> bool:
    """True if the environment, a file of this folder or the active profile names a server.

    These are the places where Prefect looks, which is not imported.
    """
    if os.environ.get("PREFECT_API_URL") or _named_in_this_folder():
        return True
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    profiles = _toml(path)
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    return bool(profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))


def _named_in_this_folder() -> bool:
    dotenv = Path(".env")
    lines = dotenv.read_text(encoding="utf-8", errors="replace").splitlines() if dotenv.is_file() else []
    return (
        any(re.match(r"\s*(?:export\s+)?PREFECT_API_URL\s*=\s*\S", line, re.IGNORECASE) for line in lines)
        or "url" in _toml(Path("prefect.toml")).get("api", {})
        or "url" in _toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {}).get("api", {})
    )


def _toml(path: Path) -> dict[str, Any]:
    """A settings file; {} if there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{path}, which may name a Prefect server, is no TOML: {error}", "mend it") from None
