"""Stage ``report``: every artifact of a run in, one page about it out (JSON, Markdown, HTML)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from pydantic import Field

from nanochat.config.base import Config
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class ReportConfig(Config):
    """What the page says about itself."""

    title: str = Field("nanochat report", min_length=1, max_length=200, description="heading of the report")
    samples: int = Field(6, ge=0, le=50, description="generated samples to show of each model")


def identity_extra(config: ReportConfig) -> dict[str, str]:
    """Name -> sha256 of each template: they decide what the page looks like, and no import leads to them."""
    folder = Path(__file__).parent.parent / "report" / "templates"
    mine = [folder / "page.css", *sorted(folder.glob("report.*"))]
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in mine}


def run(ctx: StageContext, config: ReportConfig) -> Summary:
    """Write report.json, report.md and report.html. Inputs: every artifact of the run, by stage."""
    from nanochat.report.evidence import Evidence
    from nanochat.report.render import write_report
    from nanochat.report.results import build_results

    evidence = Evidence.read(ctx.inputs, samples=config.samples)
    results = build_results(evidence)
    write_report(ctx.output, config.title, results, evidence)
    met = sum(target.met is True for target in results.targets)
    return Summary(metrics={"targets_met": met, "targets": len(results.targets)}, key_metric="targets_met")


if __name__ == "__main__":
    stage_main("report", ReportConfig, run)
