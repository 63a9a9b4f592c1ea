"""What is typed becomes parameters, or one line that names the wrong word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from artifacts.errors import UsageError
from flows.params import PipelineParams, build_params, parse_overrides, parse_reuse

anytime = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: value not in (float("inf"), float("-inf")) and "Infinity" not in json.dumps(value))


@anytime
@given(JSON)
def test_any_json_value_arrives_as_it_is(value: Any) -> None:
    assert parse_overrides([f"base.x={json.dumps(value)}"]) == {"base.x": value}


@anytime
@given(st.text())
def test_any_text_is_taken_or_refused_by_one_line(text: str) -> None:
    key, equals, value = text.partition("=")
    values, refusal = {}, None
    try:
        values = parse_overrides([text])
    except UsageError as error:
        refusal = error
    if refusal:
        assert "write --set key=value" in refusal.hint
        assert "\n" not in str(refusal)
    else:
        assert equals
        assert list(values) == [key]
        assert isinstance(values[key], str) is not _is_other_json(value)


def _is_other_json(text: str) -> bool:
    try:
        return not isinstance(json.loads(text, parse_constant=lambda _: "text"), str)
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("a=demo", "demo"), ("a=", ""), ("a=x=y", "x=y"), ("a=1e3", 1000.0), ("a=true", True),
        ("a=True", "True"),
        ("a=NaN", "NaN"), ("a=-Infinity", "-Infinity"), ("a=[1, NaN]", "[1, NaN]"), ("a='x'", "'x'"),
        ("a=" + "[" * 100_000, "[" * 100_000),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_value_is_json_if_it_parses_and_else_the_text(item: str, value: Any) -> None:
    assert parse_overrides([item]) == {"a": value}


@pytest.mark.parametrize("item", ["", "base.steps", "=3", "base..steps=3", ".x=1", "a b=1", "1a=2", "a.=1"])
def test_a_malformed_override_is_shown_with_an_example(item: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_overrides([item])
    assert repr(item) in caught.value.message
    assert "--set base.steps=20" in caught.value.hint


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rl\.steps is given twice"):
        parse_overrides(["rl.steps=1", "depth=2", "rl.steps=1"])


def test_reuse_names_a_stage_and_maybe_a_ref() -> None:
    assert parse_reuse(["base=base/demo@v2", "rl"]) == {"base": "base/demo@v2", "rl": ""}
    with pytest.raises(UsageError, match=r"unknown stage 'bsae' \(did you mean base"):
        parse_reuse(["bsae=base/demo"])


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [({"until": "rll"}, "rl"), ({"force": ["evalute"]}, "evaluate"), ({"reuse": ["tokenise"]}, "tokenize")],
)
def test_a_misspelt_stage_is_answered_with_the_nearest(wrong: dict[str, Any], meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        build_params("tiny", overrides=[], **wrong)


def test_what_was_typed_becomes_parameters() -> None:
    params = build_params(
        "tiny", overrides=["depth=2"], name="mine", store="/tmp/s", until="rl", force=["evaluate"],
        reuse=["base"],
    )  # fmt: skip
    assert params.model_dump() == {
        "preset": "tiny", "set": {"depth": 2}, "name": "mine", "store": "/tmp/s", "until": "rl",
        "force": ["evaluate"], "reuse": {"base": ""},
    }  # fmt: skip
    assert params.forced == {"eval-base", "eval-mid", "eval-sft", "eval-rl"}


def test_without_a_name_the_preset_is_the_name() -> None:
    assert PipelineParams(preset="tiny").run_name == "tiny"
    assert PipelineParams(preset="tiny", name="mine").run_name == "mine"


@pytest.mark.criterion("T90")
def test_a_store_url_with_a_password_is_refused_and_the_password_not_repeated() -> None:
    with pytest.raises(UsageError, match="put them in the environment") as caught:
        build_params("tiny", overrides=[], store="s3://me:letmein@bucket/path")
    assert "letmein" not in str(caught.value)
    assert caught.value.message.startswith("store = ")


def test_the_form_of_the_ui_refuses_what_the_command_line_refuses() -> None:
    for wrong in ({"until": "rll"}, {"force": ["x"]}, {"reuse": {"x": ""}}, {"presett": "tiny"}):
        with pytest.raises(ValidationError):
            PipelineParams.model_validate(wrong)


def test_every_field_of_the_form_has_a_title_and_a_description() -> None:
    fields = PipelineParams.model_json_schema()["properties"].values()
    assert all(field["title"] and field["description"] for field in fields)
