"""A small made-up run: every artifact folder that a report reads, with numbers whose outcome is known."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from nanochat.report.evidence import MODELS, Evidence
from nanochat.runtime import StageContext
from nanochat.stages.report import ReportConfig, run

SHAPE = {"depth": 4, "width": 128, "vocab_size": 8192, "seq_len": 256}
PROBLEMS = 500
SOLVED = {"base": 0, "mid": 300, "sft": 400, "rl": 450}
HARD = {"base": 0, "mid": 150, "sft": 250, "rl": 320}
SAMPLE = {"prompt": "What is 37 + 45?", "text": "<script>alert(1)</script> & 82"}


@pytest.fixture(scope="session")
def run_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Role -> folder, as the pipeline hands them to the report stage. Read only: copy before changing."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def own_run(tmp_path: Path) -> dict[str, Path]:
    """A run that a test may change."""
    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def evidence(run_folders: dict[str, Path]) -> Evidence:
    return Evidence.read(run_folders, samples=3)


@pytest.fixture(scope="session")
def report(run_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the stage makes of the run."""
    output = tmp_path_factory.mktemp("report")
    run(StageContext(run_folders, output, output, output), ReportConfig(title="Test & <report>"))
    return output


def write_run(root: Path) -> dict[str, Path]:
    folders = {"shards": root / "shards", "tokenizer": root / "tokenizer", "tokens": root / "tokens"}
    shards = [
        {"path": "pretrain/shard_00000.parquet", "split": "train", "rows": 900, "text_bytes": 4_000_000},
        {"path": "pretrain/shard_00001.parquet", "split": "val", "rows": 100, "text_bytes": 400_000},
    ]
    packages = {"numpy": "2.4", "rich": "15"}
    write(folders["shards"] / "manifest.json", source="pydocs", shards=shards, packages=packages)
    rows = [{"tokenizer": "nanochat", "text": text, "bytes_per_token": 3.5} for text in ("code", "val")]
    write(folders["tokenizer"] / "compression.json", schema=1, rows=rows)
    record(folders["tokenizer"], "tokenizer/bytes_per_token", 4.25, split="val", task="gpt2")
    for shard, tokens in zip(shards, (1_200_000, 120_000), strict=True):
        write(folders["tokens"] / f"{Path(shard['path']).stem}.json", split=shard["split"], tokens=tokens)
    for model in MODELS:
        folders[model] = root / model
        write_model(folders[model], model)
        folders[f"eval-{model}"] = root / f"eval-{model}"
        write_evaluation(folders[f"eval-{model}"], model)
    return folders


def write_model(folder: Path, model: str) -> None:
    header = json.dumps({"wte": {"dtype": "F32", "shape": [64, 128], "data_offsets": [0, 32768]}}).encode()
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(32768))
    write(folder / "config.json", **SHAPE)
    write(folder / "meta.json", stage=model, steps=100, tokens=400_000)
    wiggle = [[step, 2 + 6 * math.exp(-step / 20) + 0.1 * math.sin(step)] for step in range(0, 100, 2)]
    course = {
        "base": ("val_bpb", [[step, 1.8 + 2 * math.exp(-step / 25)] for step in range(0, 101, 20)]),
        "mid": ("val_loss", [[step, 2 + math.exp(-step / 30)] for step in range(0, 101, 20)]),
        "sft": ("val_loss", [[0, 1.5], [25, 1.1], [50, 0.905], [75, 0.9], [100, 0.902]]),
        "rl": ("eval/accuracy", [[0, 0.5], [50, 0.58], [100, 0.64]]),
    }
    metric, val = course[model]
    write(folder / "losses.json", val_metric=metric, train=wiggle, val=val)
    if model == "rl":
        for step in range(0, 100, 5):
            record(folder, "rl/reward", 0.45 + step / 500, step=step)
    record(folder, "train/tokens_per_second", 9000.0, step=50)
    record(folder, "memory/peak_bytes", 1.5e9)
    write(
        folder / "run" / "provenance.json", commit="0123456789abcdef0123456789abcdef01234567", dirty=None,
        command="nanochat run demo", versions={"python": "3.11.7", "torch": "2.15.0"},
        hardware={"cpu": "Some CPU", "cores": 2, "gpus": []},
    )  # fmt: skip


def write_evaluation(folder: Path, model: str) -> None:
    metrics, problems = [], {}

    def add(name: str, task: str | None, value: float, n: int, half: float | None) -> None:
        low, high = (None, None) if half is None else (max(0, value - half), min(1, value + half))
        row = {"name": name, "task": task, "split": "test" if task else "val", "value": value, "n": n}
        metrics.append({**row, "ci_low": low, "ci_high": high})

    add("val_bpb", None, {"base": 1.85, "mid": 1.9, "sft": 1.95, "rl": 1.96}[model], 120_000, None)
    for task, solved in (("arithmetic/easy", SOLVED[model]), ("arithmetic/hard", HARD[model])):
        add("eval/accuracy", task, solved / PROBLEMS, PROBLEMS, 0.04)
        problems[f"{task}/test"] = [{"id": f"p{i}", "correct": i < solved} for i in range(PROBLEMS)]
    add("eval/named", "docs", {"base": 0.0, "mid": 0.7, "sft": 0.9, "rl": 0.88}[model], 200, 0.05)
    add("eval/token_f1", "docs", {"base": 0.1, "mid": 0.3, "sft": 0.35, "rl": 0.34}[model], 200, 0.03)
    write(folder / "results.json", schema=1, metrics=metrics, problems=problems, samples=[SAMPLE])


def write(path: Path, **values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def record(folder: Path, name: str, value: float, step: int | None = None, **labels: str) -> None:
    (folder / "run").mkdir(parents=True, exist_ok=True)
    line = {
        "name": name,
        "value": value,
        "step": step,
        "split": None,
        "task": None,
        "elapsed_s": 75.0,
        **labels,
    }
    with (folder / "run" / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
