"""A run whose store is a bucket, and another machine that finds all of it there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.backends import open_backend
from flows.dag import STAGE_IDS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.needs("weed")


def test_what_one_machine_built_another_one_finds(
    weed: dict[str, str],
    s3_place: Callable[[dict[str, str]], str],
    nanochat: Callable[..., Any],
    tmp_path: Path,
) -> None:
    url = s3_place(weed)
    first, second = tmp_path / "first", tmp_path / "second"

    def ask(*arguments: str, home: Path, rc: int = 0) -> Any:
        return nanochat(*arguments, home=home, rc=rc, NANOCHAT_STORE=url)

    def statuses(lines: str) -> list[tuple[str, str]]:
        return [(line["stage"], line["status"]) for line in map(json.loads, lines.splitlines())]

    stages = STAGE_IDS[: STAGE_IDS.index("base") + 1]
    made = statuses(ask("run", "tiny", "--until", "base", "--json", home=first).stdout)
    assert made == [(stage, "ran") for stage in stages]
    assert not (first / "store").exists()
    before = list_of(url)

    found = statuses(ask("run", "tiny", "--until", "base", "--json", home=second).stdout)
    assert found == [(stage, "cached") for stage in stages]
    assert list_of(url) == before
    assert ask("chat", "-p", "What is 37 + 45?", home=second).stdout
    assert ask("art", "verify", home=second).stdout.strip() == "intact"
    lineage = json.loads(ask("art", "lineage", "base/tiny", "--json", home=second).stdout)
    assert {"shards", "tokenizer", "tokens", "base"} == {node["kind"] for node in lineage["nodes"]}

    page = (ROOT / "docs/10_artifacts.md").read_text(encoding="utf-8")
    (notebook,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    environment = {**os.environ, "NANOCHAT_STORE": url}
    done = subprocess.run(
        [sys.executable, "-c", notebook], env=environment, capture_output=True, text=True, timeout=60
    )
    assert re.fullmatch(r"[1-9]\d* measurements of 1 artifacts\n", done.stdout), done.stderr

    victim = next(info.key for info in open_backend(url).list("blobs/") if info.size > 1000)
    open_backend(url).put(victim, b"damaged")
    assert "does not have its sha256" in ask("art", "verify", home=second, rc=3).stderr


def list_of(url: str) -> list[tuple[str, int]]:
    return [(info.key, info.size) for info in open_backend(url).list("")]
