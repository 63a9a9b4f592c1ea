"""``nanochat presets``: what can be trained."""

from __future__ import annotations

from flows.cli.options import Json
from flows.cli.output import print_json, print_table
from nanochat.presets import PRESETS


def presets(*, json: Json = False) -> int:
    """List the presets."""
    if json:
        print_json([{"name": p.name, "about": p.about, "values": p.values} for p in PRESETS.values()])
    else:
        print_table(("preset", "what for"), [(preset.name, preset.about) for preset in PRESETS.values()])
    return 0
