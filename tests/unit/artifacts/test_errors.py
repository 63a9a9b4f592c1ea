from __future__ import annotations

import copy

import pytest

from artifacts.errors import BY_EXIT_CODE, DataError, NanochatError, ResourceError, UsageError


def test_exit_codes_are_those_of_the_contract() -> None:
    codes = {NanochatError: 1, UsageError: 2, DataError: 3, ResourceError: 4}
    assert {kind: kind.exit_code for kind in codes} == codes
    assert {code: kind for kind, code in codes.items()} == BY_EXIT_CODE


@pytest.mark.parametrize("kind", [NanochatError, UsageError, DataError, ResourceError])
def test_the_line_has_the_hint_and_survives_a_copy(kind: type[NanochatError]) -> None:
    assert str(kind("what")) == "what"
    error = copy.copy(kind("what", "do this"))
    assert (type(error), str(error)) == (kind, "what (do this)")
