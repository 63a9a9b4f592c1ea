"""Random input for the binding, bounded (``make fuzz`` takes ten minutes), and that failures are seen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CASES = 60  # of each campaign
FAKE = """
import os, time

def campaign(draw):
    campaign.seen += 1
    if os.environ["HOW"] == "abort" and campaign.seen == 3:
        os.abort()
    if os.environ["HOW"] == "hang" and campaign.seen == 3:
        time.sleep(60)
    if os.environ["HOW"] == "panic" and campaign.seen in (2, 3):
        raise BaseException("a panic")
    return "fine"

campaign.seen = 0
CAMPAIGNS = {"fake": campaign}
"""


def fuzz(script: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, str(script), *arguments], env=environment or None, capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_random_input_gives_a_result_or_a_typed_exception(repository: Path) -> None:
    status, result, errors = fuzz(repository / "tests/fuzz/bpe.py", "--cases", str(CASES))
    assert status == 0, errors
    assert {name: one["cases"] for name, one in result["campaigns"].items()} == dict.fromkeys(
        ["encode", "train", "patterns", "vocabularies", "decode", "types", "arrow", "parquet"], CASES
    )


def fake(repository: Path, folder: Path) -> Path:
    """The runner with one campaign that fails as HOW says."""
    text = (repository / "tests/fuzz/bpe.py").read_text()
    (folder / "bpe.py").write_text(text.replace("CASE_SECONDS = 60", "CASE_SECONDS = 1"))
    (folder / "bpe_campaigns.py").write_text(FAKE)
    return folder / "bpe.py"


def test_a_panic_is_a_failure(repository: Path, tmp_path: Path) -> None:
    status, result, errors = fuzz(fake(repository, tmp_path), "--cases", "6", "--seed", "4", HOW="panic")
    found = result["campaigns"]["fake"]
    assert (status, result["failed"], found["outcomes"]) == (1, 2, {"fine": 4})
    assert "fake: seed 4, case 1: builtins.BaseException: a panic" in errors


def test_a_child_that_dies_or_hangs_is_a_failure_and_the_campaign_goes_on(
    repository: Path, tmp_path: Path
) -> None:
    script = fake(repository, tmp_path)
    for how, said in (("abort", "ended with -6"), ("hang", "Timeout")):
        status, result, errors = fuzz(script, "--cases", "4", HOW=how)
        found = result["campaigns"]["fake"]
        assert (status, found["cases"], found["outcomes"]) == (1, 4, {"fine": 3})
        assert [failure["case"] for failure in found["failures"]] == [2]
        assert said in errors


def test_a_case_can_be_repeated_alone(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "bpe_campaigns.py").write_text(
        "CAMPAIGNS = {'fake': lambda draw: str(draw.randrange(10**6))}\n"
    )
    shutil.copy(repository / "tests/fuzz/bpe.py", tmp_path)
    drawn = [fuzz(tmp_path / "bpe.py", "--first", first, "--cases", "1")[1] for first in ("7", "7", "8")]
    outcomes = [result["campaigns"]["fake"]["outcomes"] for result in drawn]
    assert outcomes[0] == outcomes[1] != outcomes[2]
