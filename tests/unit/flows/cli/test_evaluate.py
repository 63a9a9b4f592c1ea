"""``nanochat eval``: which model is measured, on what, as an artifact that is found again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.manifest import Draft, Manifest, Parent
from artifacts.store import Store
from flows.build import Builder, Work
from flows.result import StageResult

Cli = Callable[..., Any]
ROW = {"name": "eval/accuracy", "task": "spelling", "split": "test", "value": 0.512345, "n": 4,
       "ci_low": 0.15, "ci_high": 0.85}  # fmt: skip
BARE = {**ROW, "name": "val_bpb", "task": None, "n": None, "ci_low": None, "ci_high": None}


@pytest.fixture
def builders() -> list[Builder]:
    """What built."""
    return []


@pytest.fixture
def works(
    home: Path, tmp_path: Path, draft: Callable[..., Draft], monkeypatch: pytest.MonkeyPatch,
    builders: list[Builder],
) -> list[Work]:  # fmt: skip
    """What would be built, in a store with shards, tokens of them, a base model and an sft model."""
    store = Store.open()
    made: dict[str, Manifest] = {}
    for kind, sources in {"shards": [], "tokens": ["shards"], "base": ["tokens"], "sft": ["base"]}.items():
        parents = tuple(
            Parent(
                role=source, ref=f"{source}/tiny@v1", digest=made[source].digest, manifest=made[source].hex
            )
            for source in sources
        )
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "data.txt").write_text(kind)
        made[kind] = store.commit(draft(kind, parents=parents), tmp_path / kind, None, name="tiny").manifest
    works: list[Work] = []

    def build(self: Builder, work: Work, observer: object) -> StageResult:
        works.append(work)
        builders.append(self)
        return StageResult(
            stage=work.stage.id, status="cached", artifact=f"eval/{work.name}@v1", digest="0" * 64,
            manifest="0" * 64, seconds=0.0,
        )  # fmt: skip

    (tmp_path / "results.json").write_text(json.dumps({"schema": 1, "metrics": [ROW, BARE]}))
    monkeypatch.setattr(Builder, "build", build)
    monkeypatch.setattr(Builder, "checkout", lambda self, result: tmp_path)
    monkeypatch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "0" * 64}, False))
    return works


@pytest.mark.parametrize("kind", ["base", "sft"])
def test_a_model_is_measured_on_the_text_that_it_descends_from(
    kind: str, cli: Cli, works: list[Work]
) -> None:
    ended = cli("eval", f"{kind}/tiny", "--tasks", "spelling", "docs", "--num-problems", "4")
    (work,) = works
    refs = {role: result.artifact for role, result in work.inputs.items()}
    assert refs == {"model": f"{kind}/tiny@v1", "tokens": "tokens/tiny@v1", "shards": "shards/tiny@v1"}
    assert (work.stage.id, work.name) == (f"eval-{kind}", f"tiny-{kind}-custom")
    chosen = work.config.identity()
    assert (chosen["stage"], chosen["tasks"], chosen["num_problems"]) == (
        f"eval-{kind}", ["spelling", "docs"], 4,
    )  # fmt: skip
    assert ended.out.splitlines()[-1] == f"eval/tiny-{kind}-custom@v1"


@pytest.mark.parametrize(("options", "forced"), [([], frozenset()), (["--force"], {"eval-sft"})])
def test_force_measures_again(
    options: list[str], forced: frozenset[str], cli: Cli, works: list[Work], builders: list[Builder]
) -> None:
    cli("eval", "sft/tiny", *options)
    assert builders[0].forced == forced


def test_without_options_it_measures_what_the_program_does_by_itself(cli: Cli, works: list[Work]) -> None:
    from nanochat.stages.evaluate import EvaluateConfig

    cli("eval", "base/tiny@v1")
    assert works[0].config == EvaluateConfig(stage="eval-base")


def test_another_question_is_another_artifact_and_the_same_is_not(cli: Cli, works: list[Work]) -> None:
    for number in ("4", "5", "4"):
        cli("eval", "base/tiny", "--num-problems", number)
    first, second, third = (work.fingerprint for work in works)
    assert first == third != second


def test_people_get_a_table_with_intervals(cli: Cli, works: list[Work]) -> None:
    lines = [" ".join(line.split()) for line in cli("eval", "base/tiny").out.splitlines()]
    assert "eval/accuracy spelling test 0.5123 4 0.15 to 0.85" in lines
    assert "val_bpb test 0.5123" in lines


def test_programs_get_the_results_with_the_artifact(cli: Cli, works: list[Work]) -> None:
    document = json.loads(cli("eval", "base/tiny", "--json").out)
    assert document == {
        "artifact": "eval/tiny-base-custom@v1", "status": "cached", "schema": 1, "metrics": [ROW, BARE],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "rc", "said"),
    [
        (("tokens/tiny",), 2, "tokens/tiny@v1 is no model (kinds that can be evaluated: base, mid, sft, rl)"),
        (("base/tny",), 4, "no artifact base/tny@latest (did you mean base/tiny?)"),
        (("base/tiny", "--num-problems", "0"), 2, "num_problems = 0"),
        (("base/tiny", "--num-problems", "many"), 2, "--num-problems"),
        (("base/tiny", "--tasks", "speling"), 2, "speling"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    arguments: tuple[str, ...], rc: int, said: str, cli: Cli, works: list[Work]
) -> None:
    ended = cli("eval", *arguments, rc=rc)
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert works == []


def test_a_model_of_unknown_descent_is_refused(cli: Cli, small_home: Path) -> None:
    ended = cli("eval", "base/demo", rc=2)
    assert "has no tokens among its ancestors (evaluate one that the pipeline made)" in ended.err
