"""A result is a small plain reference that crosses process borders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.build import Builder
from flows.result import StageResult, headline, result_of

RESULT = StageResult(
    stage="base", status="ran", artifact="base/demo@v1", digest="ab" * 32, manifest="1" * 64,
    seconds=1.5, metrics={"val_bpb": 1.91234, "steps": 20}, key_metric="val_bpb", drifted=["x"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "key", "text"),
    [
        ({"val_bpb": 1.91234}, "val_bpb", "val_bpb 1.912"),
        ({"tokens": 1234567}, "tokens", "tokens 1234567"),
        ({"best": "rl"}, "best", "best rl"),
        ({"loss": 0.0}, "loss", "loss 0"),
        ({"loss": 1.0}, "", ""),
        ({}, "loss", ""),
    ],
)
def test_the_headline_is_the_metric_that_matters_or_nothing(
    metrics: dict[str, float | int | str], key: str, text: str
) -> None:
    assert headline(metrics, key) == text


def test_a_result_survives_json() -> None:
    assert StageResult(**json.loads(json.dumps(RESULT.model_dump()))) == RESULT


def test_the_line_that_is_printed_is_short() -> None:
    assert RESULT.line() == {
        "stage": "base", "status": "ran", "artifact": "base/demo@v1", "digest": "ab" * 32, "seconds": 1.5,
        "metrics": {"val_bpb": 1.91234, "steps": 20},
    }  # fmt: skip


def test_a_result_of_another_shape_is_refused() -> None:
    with pytest.raises(ValidationError):
        StageResult(**RESULT.model_dump(), model="the weights")
    with pytest.raises(ValidationError):
        RESULT.model_copy().digest = "changed"


def test_the_result_of_an_artifact_leads_back_to_it(
    make_builder: Callable[..., Builder], small_home: Path
) -> None:
    store = make_builder().store
    manifest = store.resolve("base/demo@v1")[1]
    result = result_of(manifest, "cached", "base/demo@v1", seconds=1.23456)
    assert store.manifest(result.pointer) == manifest
    assert (result.seconds, result.headline, result.drifted) == (1.235, "loss 1", [])
