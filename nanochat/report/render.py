"""Results and evidence in; report.json, report.md and a self-contained report.html out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from nanochat.report import formatting
from nanochat.report.charts import TITLES, all_charts
from nanochat.report.evidence import MODELS, STAGES, Evidence
from nanochat.report.lineage import picture
from nanochat.report.results import Results

SCHEMA = 1
TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path, title: str, results: Results, evidence: Evidence) -> None:
    """Write the three forms of one report into ``folder``."""
    compression = compression_table(results, evidence)
    values = {
        "title": title,
        "results": results,
        "evidence": evidence,
        "process": process_facts(evidence),
        "models": [model for model in MODELS if model in evidence.trainings],
        "model_titles": TITLES,
        "compression": compression,
        "tokenizers": list(dict.fromkeys(name for row in compression.values() for name in row)),
        "lineage": picture(evidence.digests),
        "charts": {name: Markup(svg) for name, svg in all_charts(evidence, results.summary).items()},  # noqa: S704
        "styles": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704
    }
    document = {"schema": SCHEMA, "results": results.as_json(), "provenance": values["process"]}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    templates = _environment()
    for name in ("report.html", "report.md"):
        page = templates.get_template(f"{name}.j2").render(values)
        (folder / name).write_text(page, encoding="utf-8")


def process_facts(evidence: Evidence) -> dict[str, Any]:
    """How the run went: code, command and machine of the newest stage that says, and each stage's cost."""
    told = [process.provenance for process in evidence.processes.values() if process.provenance]
    newest = told[-1] if told else {}
    return {
        "commit": newest.get("commit"),
        "dirty": newest.get("dirty"),
        "command": newest.get("command", ""),
        "versions": newest.get("versions", {}),
        "hardware": {"cpu": "", "cores": 0, "gpus": [], **newest.get("hardware", {})},
        "stages": {
            stage: {
                "seconds": process.seconds,
                "tokens_per_second": process.tokens_per_second,
                "peak_bytes": process.peak_bytes,
            }
            for stage, process in evidence.processes.items()
            if stage in STAGES
        },
    }


def compression_table(results: Results, evidence: Evidence) -> dict[str, dict[str, float]]:
    """Text -> tokenizer -> bytes per token; other tokenizers stand in where the machine had them."""
    process = evidence.processes.get("tokenizer")
    table: dict[str, dict[str, float]] = {}
    for row in results.compression:
        table.setdefault(row["text"], {})[row["tokenizer"]] = row["bytes_per_token"]
    for (text, tokenizer), value in (process.compression if process else {}).items():
        table.setdefault(text, {}).setdefault(tokenizer, value)
    return table


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    for function in (formatting.number, formatting.interval, formatting.change):
        environment.globals[function.__name__] = function
    for function in (formatting.count, formatting.size, formatting.duration):
        environment.filters[function.__name__] = function
    return environment
