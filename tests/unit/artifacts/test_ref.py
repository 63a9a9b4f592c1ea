from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import UsageError
from artifacts.ref import ArtifactRef, check_alias

SEGMENTS = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base/demo", ArtifactRef("base", "demo", alias="latest")),
        ("base/demo@latest", ArtifactRef("base", "demo", alias="latest")),
        ("base/demo@prod", ArtifactRef("base", "demo", alias="prod")),
        ("eval/demo-sft@v12", ArtifactRef("eval", "demo-sft", version=12)),
        ("base/demo@sha256:0123abcd", ArtifactRef("base", "demo", digest="0123abcd")),
    ],
)
def test_parses(text: str, expected: ArtifactRef) -> None:
    assert ArtifactRef.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "base", "/demo", "base/", "base/demo@", "base/demo@v0", "base/demo@v01",
        "base/demo@sha256:0123abc", "base/demo@sha256:" + "0" * 65, "base/demo@sha256:ABCDEF01", "base/a/b",
        "base/demo@prod@v1", "../x", "base/..", "base/demo\n", "base/demo@v1\n", "Base/demo", "base/demo ",
        "base/demo@v1234567890",
    ],
)  # fmt: skip
def test_refuses_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        ArtifactRef.parse(text)
    assert "\n" not in str(error.value)


@given(SEGMENTS, SEGMENTS, st.integers(1, 10**8))
def test_text_and_ref_are_one(kind: str, name: str, version: int) -> None:
    ref = ArtifactRef(kind, name, version=version)
    assert ArtifactRef.parse(str(ref)) == ref


@given(st.text())
def test_any_text_is_a_ref_or_a_usage_error(text: str) -> None:
    try:
        ref = ArtifactRef.parse(text)
    except UsageError:
        return
    assert ArtifactRef.parse(str(ref)) == ref


def test_an_alias_does_not_look_like_a_version() -> None:
    assert check_alias("prod") == "prod"
    with pytest.raises(UsageError):
        check_alias("v0")
