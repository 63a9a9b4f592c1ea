"""What the store says about an artifact is enough to make it again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.manifest import Draft, Manifest
from artifacts.store import Store

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.timeout(600)
def test_a_base_model_and_all_it_was_made_from_come_out_equal(tiny_home: Path, nanochat: Command) -> None:
    answer = json.loads(nanochat("art", "reproduce", "base/tiny", "--json", home=tiny_home).stdout)
    stages = {item["stage"]: item for item in answer["stages"]}
    assert list(stages) == ["shards", "tokenizer", "tokenize", "base"]
    assert answer["equal"]
    for item in stages.values():
        assert (item["equal"], item["recorded"]) == (True, item["rebuilt"]), item
    assert not list(tiny_home.glob("reproduce-*"))


def test_a_report_is_compared_by_its_results(tiny_home: Path, nanochat: Command) -> None:
    done = nanochat("art", "reproduce", "report/tiny", "--keep-inputs", home=tiny_home)
    assert "report/tiny@v1 was reproduced" in done.stdout


def test_what_no_record_explains_is_a_failure(own_home: Path, tmp_path: Path, nanochat: Command) -> None:
    _claim(own_home, "lie", {})
    arguments = ("art", "reproduce", "tokenizer/lie", "--keep-inputs", "--folder", str(tmp_path / "place"))
    done = nanochat(*arguments, home=own_home, rc=1)
    assert "came out otherwise, and nothing that was recorded explains it" in done.stderr
    assert "differs" in done.stdout
    assert (tmp_path / "place/store/store.json").is_file()


def test_another_machine_is_named_instead(own_home: Path, nanochat: Command) -> None:
    _claim(own_home, "elsewhere", {"cpu": "Abacus 3000"})
    done = nanochat("art", "reproduce", "tokenizer/elsewhere", "--keep-inputs", home=own_home)
    assert "hardware.cpu" in done.stdout
    assert "Abacus 3000" in done.stdout
    assert "equal digests are promised only where these are equal" in done.stdout


def test_only_what_decides_no_byte_may_be_set(tiny_home: Path, nanochat: Command) -> None:
    more = ("--set", "tokenizer.vocab_size=300")
    done = nanochat("art", "reproduce", "tokenizer/tiny", "--keep-inputs", *more, home=tiny_home, rc=2)
    assert "tokenizer.vocab_size makes another artifact than the recorded one" in done.stderr


def test_why_says_what_an_artifact_is_made_of(tiny_home: Path, nanochat: Command) -> None:
    shown = nanochat("art", "why", "sft/tiny", home=tiny_home).stdout
    for expected in ("Supervised fine-tuning", "mid/tiny@v1 as model", "nanochat run tiny", "optimizer steps",
                     "nanochat art reproduce sft/tiny@v1"):  # fmt: skip
        assert expected in shown, expected
    facts = json.loads(nanochat("art", "why", "sft/tiny", "--json", home=tiny_home).stdout)
    lineage = json.loads(nanochat("art", "lineage", "sft/tiny", "--json", home=tiny_home).stdout)
    assert {item["artifact"] for item in facts["inputs"]} == {"mid/tiny@v1", "shards/tiny@v1"}
    config = lineage["nodes"][0]["config"]
    values = {item["name"]: item["value"] for item in facts["config"]}
    assert values["steps"] == config["steps"]
    assert values["optim.schedule.warmup_steps"] == config["optim"]["schedule"]["warmup_steps"]
    assert all(item["meaning"] for item in facts["config"])


def _claim(home: Path, name: str, hardware: dict[str, Any]) -> Manifest:
    """Store other bytes under the recipe of tiny's tokenizer."""
    store = Store.open(str(home / "store"))
    _, honest = store.resolve("tokenizer/tiny")
    payload = home / "payload"
    payload.mkdir()
    (payload / "tokenizer.json").write_text("{}", encoding="utf-8")
    values = {field: getattr(honest, field) for field in Draft.model_fields}
    machine = honest.provenance.hardware.model_copy(update=hardware)
    values["provenance"] = honest.provenance.model_copy(update={"hardware": machine})
    return store.commit(Draft(**values), payload, name=name, replace_fingerprint=True).manifest
