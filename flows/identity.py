"""What a stage's fingerprint is made of: its config, the digests of its inputs, and the code it imports."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from artifacts.fingerprint import import_closure, module_digest, recipe, rust_digest
from flows.dag import Stage
from flows.settings import PROJECT_ROOT
from nanochat.config.base import Config

_PACKAGES = ("nanochat", "artifacts")
_TASKS = "nanochat.tasks"
# Training with the crate decides a tokenizer. Encoding with it has one right answer, to which tests hold it.
_TRAINS_WITH_RUST = re.compile(r"\brustbpe\.train\b")


def stage_recipe(
    stage: Stage,
    config: Config,
    inputs: Mapping[str, str],
    *,
    extra: Mapping[str, Any] | None = None,
    root: Path = PROJECT_ROOT,
) -> dict[str, Any]:
    """The fingerprint's payload. inputs: role -> artifact digest. root: the source tree to read.

    Raises UsageError where the config holds a secret, DataError where an import leads nowhere.
    """
    program = importlib.import_module(stage.module)
    modules, trains_with_rust = program_digests(stage.module, tasks_of(config), root)
    more = dict(extra or {})
    if trains_with_rust:
        more["rustbpe"] = rust_digest(root / "rustbpe")
    if hasattr(program, "identity_extra"):
        more["program"] = program.identity_extra(config)
    return recipe(stage.id, program.VERSION, config.identity(), inputs=inputs, modules=modules, extra=more)


def tasks_of(config: Config) -> tuple[str, ...] | None:
    """The modules of ``nanochat.tasks`` that this config uses; None if it does not choose."""
    choose = getattr(config, "task_modules", None)
    return tuple(choose()) if choose else None


def program_digests(
    module: str, tasks: tuple[str, ...] | None, root: Path = PROJECT_ROOT
) -> tuple[dict[str, str], bool]:
    """Digest of each project module that the program imports, and whether it trains with rustbpe."""
    only = None if tasks is None else {_TASKS: tasks}
    closure = import_closure(module, {name: root / name for name in _PACKAGES}, only)
    facts = {name: _file_facts(path, path.stat().st_mtime_ns) for name, path in closure.items()}
    return {name: digest for name, (digest, _) in facts.items()}, any(rust for _, rust in facts.values())


@lru_cache(maxsize=4096)
def _file_facts(path: Path, mtime_ns: int) -> tuple[str, bool]:
    """(digest of the syntax tree, trains with rustbpe); the time is there so that an edit is seen."""
    return module_digest(path), _TRAINS_WITH_RUST.search(path.read_text(encoding="utf-8")) is not None
