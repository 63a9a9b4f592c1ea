"""What another home built is adopted, and a run builds on it without building it again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_a_run_takes_an_adopted_tokenizer(tiny_home: Path, tmp_path: Path, nanochat: Command) -> None:
    folder, home = tmp_path / "theirs", tmp_path / "home"
    for kind in ("shards", "tokenizer"):
        nanochat("art", "get", f"{kind}/tiny@v1", str(folder / kind), home=tiny_home)
        nanochat("art", "adopt", f"{kind}/theirs", str(folder / kind), home=home)
    reuse = ["--reuse", "shards=shards/theirs", "--reuse", "tokenizer=tokenizer/theirs"]
    done = nanochat("run", "tiny", *reuse, "--until", "tokenize", "--json", home=home)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["stage"], line["status"], line["artifact"]) for line in lines] == [
        ("shards", "cached", "shards/theirs@v1"),
        ("tokenizer", "cached", "tokenizer/theirs@v1"),
        ("tokenize", "ran", "tokens/tiny@v1"),
    ]
    shown = json.loads(nanochat("art", "show", "tokens/tiny", "--json", home=home).stdout)
    assert shown["provenance"]["settings"]["reused"] == ["shards/theirs@v1", "tokenizer/theirs@v1"]
    theirs = json.loads(nanochat("art", "show", "tokens/tiny@v1", "--json", home=tiny_home).stdout)
    assert shown["digest"] == theirs["digest"], "the same shards and tokenizer give the same tokens"
    again = nanochat("run", "tiny", *reuse, "--until", "tokenize", "--json", home=home)
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()] == ["cached"] * 3
    plain = json.loads(nanochat("plan", "tiny", "--until", "tokenize", "--json", home=home).stdout)
    assert plain["stages"][0]["status"] == "run", "what was adopted answers for no stage by itself"
    nanochat("art", "verify", home=home)
