"""A child's output becomes clean, whole lines in few records; nothing a person needs is lost on the way."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.processes.child_log import Coalescer, LineSplitter

anytime = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CHUNKS = st.lists(
    st.sampled_from([b"\n", b"\r", b"\x1b[31m", b"\x1b]0;t\x07", b"\xff", "é".encode(), b"ab", b" ", b"\t"])
    | st.binary(max_size=6)
)


def split(*portions: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for portion in portions for line in splitter.feed(portion)] + splitter.close()


@anytime
@given(CHUNKS)
def test_the_portions_in_which_bytes_arrive_do_not_matter(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert split(*chunks) == split(whole) == split(*(bytes([byte]) for byte in whole))


@anytime
@given(st.binary())
def test_any_bytes_become_lines_without_control_characters(data: bytes) -> None:
    for line in split(data):
        assert line.strip()
        assert {char for char in line if unicodedata.category(char) == "Cc"} <= {"\t"}


@anytime
@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)))
def test_ordinary_lines_come_out_as_they_went_in(lines: list[str]) -> None:
    assert split("\n".join(lines).encode()) == lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r\n", b"\r", b""])
def test_a_progress_bar_leaves_its_last_state(end: bytes) -> None:
    assert split(b"10 %\r20 %\r30 %" + end) == ["30 %"]


def test_bytes_that_are_not_utf_8_are_marked_and_the_rest_is_kept() -> None:
    assert split(b"caf\xff au lait\n", "ça".encode()[:1], "ça".encode()[1:]) == ["caf\ufffd au lait", "ça"]


def test_colours_titles_and_links_are_taken_out() -> None:
    link = b"\x1b]8;;http://example.org\x1b\\here\x1b]8;;\x1b\\"
    assert split(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07" + link) == ["red here"]


@pytest.mark.parametrize(("length", "kept"), [(4000, "x" * 4000), (4001, "x" * 4000 + " …")])
def test_a_long_line_is_cut_and_says_so(length: int, kept: str) -> None:
    assert split(b"x" * length + b"\n") == [kept]


def test_a_line_without_an_end_does_not_pile_up() -> None:
    splitter = LineSplitter()
    for _ in range(10):
        assert splitter.feed(b"x" * 64_000) == []
    assert len(splitter._rest) == 64_000
    assert splitter.feed(b"x\nnext\n") == ["x" * 4000 + " …", "next"]
    assert splitter.close() == []


def test_an_endless_progress_bar_shows_a_state_now_and_then() -> None:
    splitter = LineSplitter()
    shown = [line for step in range(20_000) for line in splitter.feed(b"\rstep %d" % step)]
    assert 1 < len(shown) < 10
    assert all(re.fullmatch(r"step \d+", line) for line in shown)
    assert splitter.close() == ["step 19999"]


@pytest.mark.criterion("T90")
@pytest.mark.parametrize("before", range(3970, 4001, 5))
def test_cutting_a_line_leaves_no_half_of_a_secret(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary-5f2a9c77-0000")
    (line,) = split(b"x" * (before - 1) + b" canary-5f2a9c77-0000" + b"y" * 3000)
    assert "can" not in line
    assert line.endswith(" …")


class Sink:
    """What a coalescer passed on, on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.records: list[tuple[str, bool]] = []
        self.coalescer = Coalescer(lambda text, urgent: self.records.append((text, urgent)), now=self.clock)

    def clock(self) -> float:
        return self.now


def test_lines_within_a_second_become_one_record() -> None:
    sink = Sink()
    for line in ("first", "second", "third"):
        sink.coalescer.add(line)
    assert sink.records == [("first", False)]
    sink.now += 0.9
    sink.coalescer.tick()
    assert len(sink.records) == 1
    sink.now += 0.1
    sink.coalescer.tick()
    assert sink.records[1:] == [("second\nthird", False)]
    sink.now += 5
    sink.coalescer.tick()
    assert len(sink.records) == 2, "nothing was said"


@pytest.mark.parametrize(
    "line", ["WARNING low", "WARN x", "ERROR: x", "a CRITICAL b", "FATAL", "Traceback (most", "error: x"]
)
def test_a_warning_or_error_is_passed_on_at_once_with_what_came_before(line: str) -> None:
    sink = Sink()
    for each in ("first", "second", line):
        sink.coalescer.add(each)
    assert sink.records[1:] == [(f"second\n{line}", True)]


@pytest.mark.parametrize("line", ["0 errors", "TERRORS", "the error: none", "warnings are off"])
def test_a_line_that_only_mentions_errors_waits(line: str) -> None:
    sink = Sink()
    sink.coalescer.add("first")
    sink.coalescer.add(line)
    assert len(sink.records) == 1


def test_a_flood_of_warnings_is_held_to_ten_records_a_second() -> None:
    sink = Sink()
    for number in range(1000):
        sink.now = 100 + number / 1000
        sink.coalescer.add(f"WARNING {number}")
    assert 9 <= len(sink.records) <= 10


def flood(lines: int, last: str = "last") -> list[tuple[str, bool]]:
    """The records of so many lines at one moment and ``last``, after a first one that went on at once."""
    sink = Sink()
    sink.coalescer.add("first")
    for number in range(lines):
        sink.coalescer.add(f"line {number}")
    sink.coalescer.add(last)
    sink.coalescer.close()
    return sink.records[1:]


def test_the_middle_of_a_flood_is_left_out_and_its_size_is_told() -> None:
    ((text, urgent),) = flood(1000)
    lines = text.splitlines()
    assert lines[:100] == [f"line {number}" for number in range(100)]
    assert lines[100] == "… 801 more lines, see the stage's log"
    assert lines[101:] == [*(f"line {number}" for number in range(901, 1000)), "last"]
    assert not urgent


@pytest.mark.parametrize("after", [0, 500])
def test_an_error_in_a_flood_is_not_among_the_lost(after: int) -> None:
    sink = Sink()
    for line in ["first", *["line"] * 1000, "ERROR: out of memory", *["line"] * after]:
        sink.coalescer.add(line)
        sink.now += 1e-6
    sink.coalescer.close()
    assert any("ERROR: out of memory" in text.splitlines() and urgent for text, urgent in sink.records)


def test_closing_passes_on_what_is_left_and_nothing_twice() -> None:
    sink = Sink()
    for line in ("first", "second"):
        sink.coalescer.add(line)
    sink.coalescer.close()
    sink.coalescer.close()
    assert sink.records == [("first", False), ("second", False)]


Step = tuple[str, float]
STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", "ERROR c"]), st.floats(0, 2)), max_size=60)


@anytime
@given(STEPS)
def test_below_the_limit_every_line_is_passed_on_once_and_in_order(steps: list[Step]) -> None:
    sink = Sink()
    _feed(sink, steps, sink.coalescer.add)
    sink.coalescer.close()
    assert "\n".join(text for text, _ in sink.records) == "\n".join(line for line, _ in steps)
    assert all(urgent == ("ERROR" in text) for text, urgent in sink.records)


@anytime
@given(STEPS)
def test_records_are_at_least_a_tenth_of_a_second_apart_and_a_second_unless_urgent(
    steps: list[Step],
) -> None:
    sink = Sink()
    times: list[tuple[float, bool]] = []
    watched = Coalescer(lambda text, urgent: times.append((sink.now, urgent)), now=sink.clock)
    _feed(sink, steps, watched.add)
    for (before, was_urgent), (after, urgent) in itertools.pairwise(times):
        assert after - before >= (0.1 if was_urgent else 0.0 if urgent else 1.0)


def _feed(sink: Sink, steps: list[Step], add: Callable[[str], None]) -> None:
    for line, seconds in steps:
        add(line)
        sink.now += seconds
