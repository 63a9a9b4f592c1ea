"""Exact resume on a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from artifacts.errors import NanochatError
from tests.golden.toy import train_toy


@pytest.mark.criterion("T07")
@pytest.mark.needs("cuda")
def test_a_killed_and_resumed_run_on_a_gpu_stays_with_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property
) -> None:
    whole = train_toy(tmp_path / "whole", steps=50, device="cuda")
    monkeypatch.setenv("NANOCHAT_FAULT_FILE", str(tmp_path / "fault"))
    (tmp_path / "fault").write_text("sft 22")
    with pytest.raises(NanochatError, match="planned fault"):
        train_toy(tmp_path / "cut", steps=50, device="cuda")
    (tmp_path / "fault").unlink()
    resumed = train_toy(tmp_path / "cut", steps=50, device="cuda")
    record_property("bitwise", resumed == whole)
    gap = max(abs(a - b) / b for a, b in zip(resumed.losses, whole.losses, strict=True))
    assert all(map(math.isfinite, resumed.losses))
    assert gap <= 1e-3, gap
