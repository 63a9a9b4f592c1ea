"""The report stage as a stage: what decides its identity."""

from __future__ import annotations

from pathlib import Path

from nanochat.stages import report
from nanochat.stages.report import ReportConfig


def test_each_of_its_templates_is_part_of_the_identity(repository: Path) -> None:
    digests = report.identity_extra(ReportConfig())
    there = {path.name for path in (repository / "nanochat/report/templates").iterdir()}
    assert set(digests) == {"report.html.j2", "report.md.j2", "page.css"} == there - {"sweep.html.j2"}
    assert len(set(digests.values())) == len(digests)
