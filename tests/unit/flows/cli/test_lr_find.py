"""``nanochat lr-find``: a fresh model on the text of a finished run, found again the second time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.lr_find import lr_find_config
from nanochat.config.pipeline import resolve

Nanochat = Callable[..., Any]


def test_on_the_real_tokens_of_a_run(nanochat: Nanochat, own_home: Path) -> None:
    asked = ("lr-find", "tiny", "--steps", "30", "--low", "0.03", "--high", "30")
    first = json.loads(nanochat(*asked, "--json", home=own_home).stdout)
    assert (first["artifact"], first["status"]) == ("report/tiny-lr-find@v1", "ran")
    assert first["scales"][0] == pytest.approx(0.03)
    assert len(first["scales"]) == len(first["losses"]) <= 30
    assert first["losses"][0] == pytest.approx(6.24, abs=0.1)  # ln 512
    assert min(first["smoothed"]) < first["losses"][0] - 0.5
    assert 0.03 < first["suggestion"] <= first["lowest"]
    again = nanochat(*asked, home=own_home)
    assert (
        f"suggestion: --set base.optim.lr_scale={first['suggestion']:.2g} (this preset has 0.3)"
        in again.stdout
    )
    assert again.stdout.splitlines()[-1] == first["artifact"]
    assert "running" not in again.stderr


def test_what_the_ramp_replaces_does_not_make_it_another_test() -> None:
    plain = lr_find_config(resolve("tiny")["base"], {})
    replaced = {"base.optim.lr_scale": 7, "base.steps": 9, "base.optim.schedule.warmup_steps": 3}
    other = lr_find_config(resolve("tiny", replaced)["base"], {})
    assert plain == other
    assert plain != lr_find_config(resolve("tiny", {"base.optim.matrix_lr": 0.1})["base"], {})
    assert plain != lr_find_config(resolve("tiny")["base"], {"steps": 50})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tyny",), "unknown preset 'tyny'"),
        (("tiny", "--low", "1", "--high", "2"), "from 1 to 2 is less than a factor of 10"),
        (("tiny", "--steps", "3"), "steps = 3"),
        (("tiny", "--set", "base.stepz=3"), "did you mean base.steps"),
    ],
)
def test_what_cannot_be_tested_is_one_line(
    arguments: tuple[str, ...], said: str, cli: Callable[..., Any], home: Path
) -> None:
    ended = cli("lr-find", *arguments, rc=2)
    assert said in ended.err
    assert ended.err.count("\n") == 1
