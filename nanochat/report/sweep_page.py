"""A sweep in; sweep.json, sweep.csv, sweep.png and a self-contained sweep.html out."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nanochat.report.render import TEMPLATES
from nanochat.report.sweep import Sweep, budget_table, conclusions, csv_text, table
from nanochat.report.sweep_charts import colours, png, svgs


def write_sweep(folder: Path, title: str, sweep: Sweep) -> None:
    """Write the four forms of one sweep into ``folder``."""
    text = json.dumps(sweep.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "sweep.json").write_text(text + "\n", encoding="utf-8")
    (folder / "sweep.csv").write_text(csv_text(sweep), encoding="utf-8")
    (folder / "sweep.png").write_bytes(png(sweep))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    tints = colours(sweep.valleys).values()
    page = environment.get_template("sweep.html.j2").render(
        title=title, sweep=sweep, conclusions=conclusions(sweep), models=table(sweep),
        budgets=budget_table(sweep), tints=list(tints),
        charts=[Markup(svg) for svg in svgs(sweep).values()],  # noqa: S704
        styles=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704
    )  # fmt: skip
    (folder / "sweep.html").write_text(page, encoding="utf-8")
