"""docs/reliability.md says of each criterion whether it is tested, and the tests agree."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_table_of_tested_criteria_is_what_the_tests_carry(repository: Path) -> None:
    tested, planned = (repository / "docs" / "reliability.md").read_text(encoding="utf-8").split("## Planned")
    carried = {
        number
        for path in (repository / "tests").rglob("test_*.py")
        for call in re.findall(r"mark\.criterion\(([^)]*)\)", path.read_text(encoding="utf-8"))
        for number in re.findall(r"T\d+", call)
    }
    assert set(re.findall(r"^\| (T\d+) \|", tested, re.MULTILINE)) == carried
    assert not set(re.findall(r"^\| (T\d+) \|", planned, re.MULTILINE)) & carried
