"""Presets and overrides become valid stage configs, or one clear line."""

from __future__ import annotations

import pytest

from artifacts.errors import UsageError
from nanochat.config.pipeline import Resolution, resolve
from nanochat.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_to_every_stage(preset: str) -> None:
    stages = resolve(preset)
    assert list(stages) == [
        "shards", "tokenizer", "tokenize", "base", "eval-base", "mid", "eval-mid",
        "sft", "eval-sft", "rl", "eval-rl", "report",
    ]  # fmt: skip


def test_overrides_beat_the_preset_and_the_preset_beats_the_rule() -> None:
    assert resolve("tiny")["base"].steps == PRESETS["tiny"].values["base.steps"]
    assert resolve("tiny", {"base.steps": "7"})["base"].steps == 7
    resolution = Resolution("tiny", {"base.steps": 7})
    assert resolution.rules["base.steps"] == "--set"
    assert resolution.rules["base.batch_tokens"] == "preset tiny"
    assert "depth" in resolution.rules["base.model"]


def test_depth_reaches_the_model() -> None:
    assert resolve("tiny", {"depth": 3})["base"].model.depth == 3


def test_evaluate_means_all_evaluations_and_a_full_name_one() -> None:
    stages = resolve("tiny", {"evaluate.num_problems": 9, "eval-rl.num_problems": 11})
    assert (stages["eval-sft"].num_problems, stages["eval-rl"].num_problems) == (9, 11)
    assert stages["eval-sft"].stage == "eval-sft"


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"dept": 3}, "did you mean depth"),
        ({"base.stepz": 3}, "did you mean base.steps"),
        ({"rl.optim.schedule.warmup": 3}, "rl.optim.schedule.warmup_steps"),
        ({"bass.steps": 3}, "did you mean base"),
        ({"base.steps": 0}, "base.steps = 0: Input should be greater than or equal to 1"),
        ({"base.steps": "many"}, "base.steps = 'many'"),
        ({"base.model.width": 33}, "width 33"),
        ({"vocab_size": 5}, "vocab_size = 5"),
        ({"tokenizer.vocab_size": 400}, "set both at once: --set vocab_size=N"),
        ({"base.model.width": 16}, "width 16 is less than 24"),
        ({"base.shuffle_buffer": 3001}, "base.shuffle_buffer = 3001"),
        ({"sft.batch_tokens": 500}, "sft.batch_tokens = 500 is not a multiple of"),
    ],
)
def test_a_wrong_key_or_value_is_one_clear_line(overrides: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("tiny", overrides)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean demo"):
        resolve("dmeo")


def test_identity_leaves_runtime_fields_out() -> None:
    base = resolve("tiny")["base"]
    quiet = resolve("tiny", {"base.log_every": 99, "base.checkpoint_every": 3})["base"]
    assert base.identity() == quiet.identity()
    assert base.identity() != resolve("tiny", {"base.steps": 9})["base"].identity()
