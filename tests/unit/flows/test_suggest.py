"""A wrong name is answered with the nearest right one."""

from __future__ import annotations

from artifacts.errors import UsageError
from flows.suggest import unknown


def test_the_nearest_name_is_suggested() -> None:
    error = unknown("stage", "bsae", ["base", "mid", "rl"])
    assert isinstance(error, UsageError)
    assert (error.message, error.hint) == ("unknown stage 'bsae'", "did you mean base?")


def test_where_nothing_is_near_all_are_listed() -> None:
    assert unknown("stage", "xyz", iter(["base", "mid"])).hint == "one of: base, mid"
