"""A planned fault happens at its stage and step, and only while its file is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import NanochatError
from nanochat.faults import planned_fault


def test_only_the_named_step_of_the_named_stage_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_fault("base", 5)
    file = tmp_path / "fault"
    monkeypatch.setenv("NANOCHAT_FAULT_FILE", str(file))
    planned_fault("base", 5)
    file.write_text("base 5\n")
    for stage, step in (("base", 4), ("mid", 5)):
        planned_fault(stage, step)
    with pytest.raises(NanochatError, match="a planned fault at step 5"):
        planned_fault("base", 5)
