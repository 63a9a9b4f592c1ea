"""Stop strings: what is streamed is the whole text up to the first of them, however it comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.engine.stop_strings import StopStrings

TEXTS = st.text("abé👍", max_size=30)
STOPS = st.lists(st.text("abé👍", min_size=1, max_size=5), max_size=3)


def cut(text: str, stops: list[str]) -> str:
    """``text`` before the stop string that ends first."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abé👍", max_size=6), max_size=10), STOPS)
def test_the_pieces_make_the_whole_text_before_the_stop(pieces: list[str], stops: list[str]) -> None:
    whole, reader = "".join(pieces), StopStrings(stops)
    given_out = ""
    for piece in pieces:
        given_out += reader.feed(piece)
        assert cut(whole, stops).startswith(given_out)
    assert given_out + reader.close() == cut(whole, stops)
    assert reader.hit == any(stop in whole for stop in stops)


@settings(deadline=None)
@given(TEXTS, STOPS)
def test_nothing_is_held_back_without_need(text: str, stops: list[str]) -> None:
    reader = StopStrings(stops)
    given_out = "".join(reader.feed(character) for character in text)
    held = reader.close()
    assert not held or any(stop.startswith(held) for stop in stops)
    assert reader.hit or given_out + held == text


def test_a_stop_string_is_found_across_pieces() -> None:
    reader = StopStrings(["</end>"])
    assert [reader.feed(piece) for piece in ("a<", "b</e", "nd", "> c", "d")] == ["a", "<b", "", "", ""]
    assert reader.hit
    assert reader.close() == ""


def test_an_empty_one_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        StopStrings([""])
