"""Options that several commands share, and how they are written."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else on stdout.")]
StoreUrl = Annotated[
    str | None,
    Parameter(name="--store", help="Store URL or folder; default: $NANOCHAT_STORE."),
]
Overrides = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="key=value: a dial (depth=6) or a field (rl.steps=20)."),
]
Name = Annotated[str | None, Parameter(name="--name", help="Name of the artifacts; default: the preset's.")]
Until = Annotated[str | None, Parameter(name="--until", help="The last stage.")]
Reuse = Annotated[
    list[str] | None,
    Parameter(name="--reuse", negative="", help="STAGE[=REF]: take this artifact although its code changed."),
]
Force = Annotated[
    list[str] | None,
    Parameter(name="--force", negative="", help="Stage to build again; evaluate: all four."),
]
