"""The command tree. Each command is named by a string and imported when it is called."""

from __future__ import annotations

from cyclopts import App

from flows.cli.commands import COMMANDS, GROUPS


def build_app() -> App:
    """The application; calling it parses arguments and runs one command."""
    app = App(name="nanochat", version=_version, help_format="plaintext")
    for name, (target, text) in COMMANDS.items():
        app.command(target, name=name, help=text)
    for group, (commands, explanation) in GROUPS.items():
        inner = App(name=group, help=explanation)
        for name, (target, text) in commands.items():
            inner.command(target, name=name, help=text)
        app.command(inner)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("nanochat-pipeline")
