"""The command tree: every command is there, loads, and explains itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from flows.cli.commands import COMMANDS, GROUPS

Cli = Callable[..., Any]
ALL = {(name,): text for name, (_, text) in COMMANDS.items()}
ALL |= {(group, name): text for group, (inner, _) in GROUPS.items() for name, (_, text) in inner.items()}


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...], cli: Cli) -> None:
    out = cli(*command, "--help").out
    assert f"Usage: nanochat {' '.join(command)}" in out
    assert ALL[command] in " ".join(out.split())


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_lists_its_commands(group: str, cli: Cli) -> None:
    out = cli(group).out
    assert all(f" {name} " in out for name in GROUPS[group][0])


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert cli("--version").out.strip() == version("nanochat-pipeline")


@pytest.mark.parametrize("arguments", [("frobnicate",), ("art", "frobnicate"), ("presets", "extra")])
def test_a_word_that_nobody_knows_is_refused(arguments: tuple[str, ...], cli: Cli) -> None:
    assert arguments[-1] in cli(*arguments, rc=2).err
