"""Faults on demand, for tests and drills: a file, which $NANOCHAT_FAULT_FILE names, says what fails."""

from __future__ import annotations

import os
from pathlib import Path

from artifacts.errors import NanochatError


def planned_fault(stage: str, step: int) -> None:
    """Raises NanochatError if the file is there and holds ``STAGE STEP``, this very step."""
    path = os.environ.get("NANOCHAT_FAULT_FILE")
    if path and Path(path).is_file() and Path(path).read_text(encoding="utf-8").split() == [stage, str(step)]:
        raise NanochatError(f"a planned fault at step {step}", f"remove {path} and retry")
