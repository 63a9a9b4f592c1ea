"""The table of commands, and the overview that is made of it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from flows.cli.commands import COMMANDS, GROUPS, overview
from flows.settings import PROJECT_ROOT

TREE = dict(COMMANDS)
for group, (inner, _) in GROUPS.items():
    TREE |= {f"{group} {name}": command for name, command in inner.items()}
TARGETS = [target for target, _ in TREE.values()]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_a_documented_function(target: str) -> None:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    assert callable(function)
    assert function.__doc__


def test_the_overview_names_every_command_with_its_line() -> None:
    lines = [" ".join(line.split()) for line in overview().splitlines()]
    for name, (_, text) in TREE.items():
        assert f"{name} {text}" in lines


def test_the_overview_loads_nothing_that_takes_time() -> None:
    program = (
        "import sys; from flows.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'cyclopts', 'pydantic', 'prefect', 'torch', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
