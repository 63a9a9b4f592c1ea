"""Folders in, types out; what is broken is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from artifacts.errors import DataError
from artifacts.manifest import FileEntry
from artifacts.manifest import payload_digest as store_digest
from nanochat.report.evidence import Evidence, Split, payload_digest


def test_what_a_run_says(evidence: Evidence) -> None:
    assert (evidence.source, evidence.packages) == ("pydocs", 2)
    assert evidence.splits == {
        "train": Split(1, 900, 4_000_000, 1_200_000),
        "val": Split(1, 100, 400_000, 120_000),
    }
    assert evidence.trainings["base"].parameters == 64 * 128
    assert evidence.trainings["sft"].val[-1] == (100, 0.902)
    assert evidence.evaluations["sft"].correct["arithmetic/hard"]["p0"] is True
    named = evidence.evaluations["sft"].metric("named", "docs")
    assert named
    assert (named.value, named.n) == (0.9, 200)


def test_how_a_run_went(evidence: Evidence) -> None:
    process = evidence.processes["rl"]
    assert (process.seconds, process.tokens_per_second, process.peak_bytes) == (75.0, 9000.0, 1.5e9)
    assert len(process.rewards) == 20
    assert process.provenance["command"] == "nanochat run demo"


def test_the_digest_is_that_of_the_store(run_folders: dict[str, Path]) -> None:
    from hashlib import sha256

    folder = run_folders["base"]
    entries = tuple(
        FileEntry(path=path.name, size=path.stat().st_size, sha256=sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
        if path.is_file()
    )
    assert len(entries) == 4
    assert payload_digest(folder) == store_digest(entries)


def test_a_run_without_its_process_is_read(own_run: dict[str, Path]) -> None:
    for folder in own_run.values():
        shutil.rmtree(folder / "run", ignore_errors=True)
    evidence = Evidence.read(own_run, samples=1)
    assert evidence.processes["base"].seconds is None
    assert evidence.processes["base"].provenance == {}


def test_a_part_of_a_run_is_read(run_folders: dict[str, Path]) -> None:
    evidence = Evidence.read({"base": run_folders["base"]}, samples=1)
    assert list(evidence.trainings) == ["base"]
    assert evidence.evaluations == {}
    assert evidence.splits == {}


@pytest.mark.parametrize(
    ("role", "file"),
    [
        ("shards", "manifest.json"), ("tokens", "shard_00000.json"), ("tokenizer", "compression.json"),
        ("sft", "losses.json"), ("sft", "model.safetensors"), ("eval-rl", "results.json"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named(role: str, file: str, own_run: dict[str, Path]) -> None:
    (own_run[role] / file).write_bytes(b"{ not json")
    with pytest.raises(DataError, match=f"{role}/{file}"):
        Evidence.read(own_run, samples=1)
    (own_run[role] / file).unlink()
    with pytest.raises(DataError, match=f"{role}/{file}"):
        Evidence.read(own_run, samples=1)
