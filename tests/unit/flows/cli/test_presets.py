"""``nanochat presets``: what can be trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nanochat.presets import PRESETS


def test_every_preset_is_listed_with_what_it_is_for(cli: Callable[..., Any]) -> None:
    text = " ".join(cli("presets").out.split())
    for preset in PRESETS.values():
        assert f"{preset.name} {preset.about}" in text


def test_the_json_has_the_values_too(cli: Callable[..., Any]) -> None:
    listed = json.loads(cli("presets", "--json").out)
    assert [preset["name"] for preset in listed] == list(PRESETS)
    assert listed[0] == {"name": "tiny", "about": PRESETS["tiny"].about, "values": PRESETS["tiny"].values}
