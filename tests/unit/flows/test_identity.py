"""Changing one thing runs again just what depends on it: every example of the rules, on the real code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.dag import STAGES
from flows.identity import stage_recipe
from flows.settings import PROJECT_ROOT
from nanochat.config.pipeline import Resolution

EVALUATIONS = {"eval-base", "eval-mid", "eval-sft", "eval-rl"}
FROM_BASE = {"base", "mid", "sft", "rl", "report"} | EVALUATIONS
ALL = {stage.id for stage in STAGES}
CONVERSATIONS = {"shards", "mid", "sft", "rl"} | EVALUATIONS

Recipes = dict[str, dict[str, Any]]


def recipes(root: Path = PROJECT_ROOT, preset: str = "tiny", **settings: Any) -> Recipes:
    """The recipe of every stage, with every input's digest fixed."""
    configs = Resolution(preset, {key.replace("__", "."): value for key, value in settings.items()}).stages
    return {
        stage.id: stage_recipe(stage, configs[stage.id], dict.fromkeys(stage.inputs, "0" * 64), root=root)
        for stage in STAGES
    }


def own_changes(before: Recipes, after: Recipes) -> set[str]:
    """The stages whose own recipe changed."""
    return {stage for stage in before if before[stage] != after[stage]}


def with_dependents(changed: set[str]) -> set[str]:
    """And those that read what they make, if that comes out different."""
    rerun = set(changed)
    for stage in STAGES:
        if rerun & set(stage.inputs.values()):
            rerun.add(stage.id)
    return rerun


@pytest.fixture(scope="module")
def unedited() -> Recipes:
    return recipes()


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Mapping[str, tuple[str, str]]], Recipes]:
    """Recipes over a copy of the source with one text replaced in a file of it."""

    def edit(changes: Mapping[str, tuple[str, str]]) -> Recipes:
        for part in ("nanochat", "artifacts", "rustbpe"):
            ignore = shutil.ignore_patterns("target", "__pycache__")
            shutil.copytree(PROJECT_ROOT / part, tmp_path / part, ignore=ignore)
        for name, (old, new) in changes.items():
            text = (tmp_path / name).read_text(encoding="utf-8")
            assert old in text, f"{name} no longer holds {old!r}: choose another line to edit"
            (tmp_path / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        return recipes(tmp_path)

    return edit


Edited = Callable[[Mapping[str, tuple[str, str]]], Recipes]


def test_a_comment_or_docstring_in_the_model_runs_nothing(edited: Edited, unedited: Recipes) -> None:
    gpt = (PROJECT_ROOT / "nanochat/model/gpt.py").read_text(encoding="utf-8")
    docstring = gpt.split('"""')[1]
    after = edited({"nanochat/model/gpt.py": (f'"""{docstring}"""', '"""Another."""  # and a comment')})
    assert own_changes(unedited, after) == set()


def test_an_operator_in_the_model_runs_base_and_after(edited: Edited, unedited: Recipes) -> None:
    after = edited({"nanochat/model/gpt.py": (" + self.mlp(", " - self.mlp(")})
    assert own_changes(unedited, after) == {"base", "mid", "sft", "rl"} | EVALUATIONS
    assert with_dependents(own_changes(unedited, after)) == FROM_BASE


def test_an_edit_of_the_report_runs_only_the_report(edited: Edited, unedited: Recipes) -> None:
    assert own_changes(unedited, edited({"nanochat/report/targets.py": ("0.20", "0.21")})) == {"report"}


def test_an_edit_of_a_report_template_runs_only_the_report(
    unedited: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanochat.stages.report.identity_extra", lambda config: {"report.html": "other"})
    assert own_changes(unedited, recipes()) == {"report"}


def test_an_edit_of_a_task_runs_only_the_stages_that_use_it(edited: Edited) -> None:
    used = {"mid__mixture": {"arithmetic/easy": 20}, "mid__val_mixture": {"arithmetic/easy": 4}}
    spelling = "nanochat/tasks/spelling.py"
    line = next(
        line
        for line in (PROJECT_ROOT / spelling).read_text(encoding="utf-8").splitlines()
        if "return" in line
    )
    after = edited({spelling: (line, line.replace("return", "assert True; return"))})
    with_it, root = own_changes(recipes(), after), PROJECT_ROOT
    users = {stage for stage in ALL if "nanochat.tasks.spelling" in recipes(root)[stage]["modules"]}
    assert with_it == users
    assert users < CONVERSATIONS
    assert "mid" in users
    without = recipes(root, **used)
    assert "nanochat.tasks.spelling" not in without["mid"]["modules"]
    assert "nanochat.tasks.arithmetic" in without["mid"]["modules"]


def test_an_edit_of_the_crate_runs_the_tokenizer_and_nothing_after_an_equal_one(
    edited: Edited, unedited: Recipes
) -> None:
    after = edited({"rustbpe/src/lib.rs": ("use ", "// edited\nuse ")})
    # Inputs are digests: where the tokenizer comes out equal, nobody after it sees a difference.
    assert own_changes(unedited, after) == {"tokenizer"}


def test_a_setting_of_rl_runs_rl_its_evaluation_and_the_report(unedited: Recipes) -> None:
    changed = own_changes(unedited, recipes(rl__temperature=0.9))
    assert changed == {"rl"}
    assert with_dependents(changed) == {"rl", "eval-rl", "report"}


@pytest.mark.parametrize("stage", ["base", "mid", "sft", "rl"])
def test_how_often_to_log_runs_nothing(stage: str, unedited: Recipes) -> None:
    assert own_changes(unedited, recipes(**{f"{stage}__log_every": 7})) == set()


def test_a_changed_name_or_store_is_no_part_of_a_recipe(unedited: Recipes) -> None:
    assert "tiny" not in str([recipe["config"] for recipe in unedited.values()])
