"""How things are printed: JSON for programs, tables for people."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flows.cli.output import print_json, print_table
from nanochat.report.formatting import size as size_text


def test_json_is_one_line_whatever_the_text_holds(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": "two\nlines, ça et là", "n": [1, 2.5, None]}
    print_json(value)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "ça" in out
    assert json.loads(out) == value


def test_lines_of_two_threads_stay_whole() -> None:
    program = """if True:
        import sys, threading
        from flows.cli.output import print_json

        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=lambda: [print_json({"n": n}) for n in range(3000)]) for _ in "ab"]
        for thread in threads:
            thread.start()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert sorted(json.loads(line)["n"] for line in done.stdout.splitlines()) == sorted([*range(3000)] * 2)


def test_a_table_keeps_long_cells_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("artifact", "digest"), [("tokenizer/a-rather-long-name@v12", "x" * 64)])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "x" in line]
    assert row.split() == ["tokenizer/a-rather-long-name@v12", "x" * 64]


def test_a_cell_is_text_and_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("config", ""), [("[red]loss[/red]", ":smile: [/]")])
    out = capsys.readouterr().out
    assert "[red]loss[/red]" in out
    assert ":smile: [/]" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5 * 10**9, "5.0 GB"),
     (7 * 10**15, "7000.0 TB")],
)  # fmt: skip
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text
