"""What the pages say is true: commands run, programs run, references lead somewhere, tables are recomputed.

A page is followed from top to bottom in one folder, as a reader would. ``demo`` takes minutes, so the
commands find a model of that name that was made with the preset ``tiny``; ``make`` targets are looked up.
The how-to pages are typed beside a server, in ``tests/integration/test_prefect_runs.py``.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nanochat.config.derive import Dials, derive, model_shape
from nanochat.model.gpt import GPT

ROOT = Path(__file__).parents[2]
FOUND = [page for folder in ("docs", "docs/adr", "docs/howto") for page in (ROOT / folder).glob("*.md")]
PAGES = sorted([ROOT / "README.md", *FOUND])
GUIDES = [page for page in PAGES if re.match(r"README|\d\d_", page.name) and page.parent.name != "adr"]
FOLDERS = "artifacts|nanochat|flows|deployments|rustbpe|tests|docs|benchmarks"
ids = pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def demo_home(
    tiny_home: Path, nanochat: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A home that holds a model called demo."""
    home = tmp_path_factory.mktemp("demo") / "home"
    shutil.copytree(tiny_home, home, symlinks=True)
    nanochat("run", "tiny", "--name", "demo", home=home)
    return home


def as_tested(command: str) -> str:
    """The preset tiny under the name demo, where the command would train the demo for minutes."""
    name = "" if "--name" in command else " --name demo"
    return re.sub(r"\bnanochat run demo\b", f"nanochat run tiny{name}", command)


@ids
def test_every_command_of_a_page_works(
    page: Path, demo_home: Path, tmp_path: Path, commands_of: Callable[[Path], list[str]]
) -> None:
    environment = {
        **os.environ, "NANOCHAT_HOME": str(demo_home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    for command in commands_of(page):
        if re.match(r"(git|cd|source) ", command):
            continue  # getting the project and its environment, which are here already
        if command.startswith("make "):
            target = shlex.split(command, comments=True)[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), (
                command
            )
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", as_tested(command)], cwd=tmp_path, env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"


@ids
def test_the_programs_of_a_page_run_in_order(
    page: Path, demo_home: Path, tmp_path: Path, nanochat: Callable[..., object]
) -> None:
    programs = blocks(page, "python")
    if not programs:
        return
    if any("my-model" in program for program in programs):
        nanochat("art", "get", "base/demo@v1", str(tmp_path / "my-model"), home=demo_home)
    environment = {
        **os.environ, "NANOCHAT_HOME": str(demo_home), "NANOCHAT_STORE": f"{demo_home}/store",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(programs)], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_and_symbol_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = []
    for path, symbol in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)(?::([\w.]+))?`", text):
        target = ROOT / path
        if not target.exists() or (symbol and symbol not in symbols(target)):
            missing.append(f"{path}:{symbol}")
    assert missing == []


def symbols(module: Path) -> set[str]:
    """Top-level names of a module, and Class.member of its classes."""
    found: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        names = [node.name] if hasattr(node, "name") else []
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
        found.update(names)
        if isinstance(node, ast.ClassDef):
            members = [item for item in node.body if hasattr(item, "name")]
            found.update(f"{node.name}.{member.name}" for member in members)
            fields = [item.target.id for item in node.body if isinstance(item, ast.AnnAssign)]
            found.update(f"{node.name}.{field}" for field in fields)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in headings(file), target


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_table_of_the_depth_dial_is_what_the_rules_give() -> None:
    text = (ROOT / "docs/03_architecture.md").read_text(encoding="utf-8")
    row = r"^\| (\d+) \| ([\d,]+) \| (\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$"
    rows = re.findall(row, text, re.MULTILINE)
    assert len(rows) == 7
    for cells in rows:
        depth, *said = (int(cell.replace(",", "")) for cell in cells)
        dials = Dials(depth=depth)
        shape, rules = model_shape(dials), derive(dials).values
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in GPT(shape).parameters())
        scaling = 12 * depth * shape.width**2 + shape.vocab_size * shape.width
        assert said == [
            shape.width, shape.num_heads, parameters, scaling, rules["base.batch_tokens"], rules["base.steps"]
        ]  # fmt: skip
