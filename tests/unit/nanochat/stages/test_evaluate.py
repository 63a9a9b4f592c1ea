"""The evaluation stage on a random model: the shape of its results, and what they depend on."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from artifacts.errors import DataError, ResourceError
from nanochat.config.model import ModelConfig
from nanochat.engine.model_folder import open_model
from nanochat.model.gpt import GPT
from nanochat.records import read_records
from nanochat.runtime import StageContext, Summary
from nanochat.stages.evaluate import EvaluateConfig, run
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.operands import is_test_pair
from nanochat.tokenizer.tokenizer import Tokenizer

DOCUMENTS = ["Return the parts of a path.", "A text with 4 words.", ""]
OBJECT = {"name": "os.path.glob", "short": "glob", "kind": "function", "arguments": ["a"],
          "summary": "Return matching names.", "document": "0"}  # fmt: skip


def a_test_pair() -> tuple[int, int]:
    """A pair that the evaluation would ask about if the training text did not contain it."""
    return next((a, b) for a in range(2, 60) for b in range(20, 90) if is_test_pair(a, b))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random byte-level model, the tokens of three documents, and shards with one documented object."""
    folder = tmp_path_factory.mktemp("inputs")
    roles = {role: folder / role for role in ("model", "tokens", "shards")}
    for path in roles.values():
        path.mkdir()
    tokenizer = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
    tokenizer.save(roles["model"])
    config = ModelConfig(depth=2, width=32, num_heads=2, num_kv_heads=2, vocab_size=265, seq_len=160)
    (roles["model"] / "config.json").write_text(config.model_dump_json())
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(0))
    save_file(model.state_dict(), roles["model"] / "model.safetensors")

    tokens = [tokenizer.encode(text) for text in DOCUMENTS]
    np.save(
        roles["tokens"] / "shard_00001.tokens.npy",
        np.array([i for ids in tokens for i in ids], dtype=np.uint16),
    )
    offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    np.save(roles["tokens"] / "shard_00001.offsets.npy", offsets)
    about = {"split": "val", "rows": len(tokens), "tokens": int(offsets[-1])}
    (roles["tokens"] / "shard_00001.json").write_text(json.dumps(about))

    a, b = a_test_pair()
    (roles["shards"] / "pretrain").mkdir()
    texts = [f"It is known that {a} * {b} is something.", "No numbers."]
    pq.write_table(pa.table({"text": texts}), roles["shards"] / "pretrain/shard_00000.parquet")
    manifest = {"splits": {"train": ["pretrain/shard_00000.parquet"], "val": []}}
    (roles["shards"] / "manifest.json").write_text(json.dumps(manifest))
    (roles["shards"] / "tasks/docs").mkdir(parents=True)
    for split in ("train", "test"):
        (roles["shards"] / f"tasks/docs/{split}.jsonl").write_text(json.dumps(OBJECT) + "\n")
    return roles


def evaluate(inputs: dict[str, Path], folder: Path, **fields: Any) -> tuple[dict[str, Any], Summary]:
    """Run the stage in ``folder``; its results.json and summary."""
    context = StageContext(inputs, folder / "output", folder / "attempt", folder / "scratch")
    for path in (context.output, context.attempt):
        path.mkdir(parents=True, exist_ok=True)
    values = {"num_problems": 6, "max_new_tokens": 8, "num_samples": 2, "dtype": "float32"} | fields
    summary = run(context, EvaluateConfig(**values))
    return json.loads((context.output / "results.json").read_text()), summary


def test_results_hold_every_metric_with_its_n_and_interval(inputs: dict[str, Path], tmp_path: Path) -> None:
    results, summary = evaluate(inputs, tmp_path, stage="eval-sft")
    assert results["stage"] == "eval-sft"
    found = {(row["name"], row["task"]): row for row in results["metrics"]}
    assert found["val_bpb", None]["value"] == pytest.approx(math.log2(265), rel=0.05)
    for task, n in {"arithmetic/easy": 6, "arithmetic/hard": 6, "docs": 1, "spelling": 6}.items():
        row = found["eval/accuracy", task]
        assert (row["n"], row["split"]) == (n, "test")
        assert 0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
        assert len(results["problems"][f"{task}/test"]) == n
    assert ("eval/token_f1", "docs") in found
    assert [sorted(sample) for sample in results["samples"]] == [["prompt", "text"]] * 2
    assert summary.metrics["arithmetic/easy"] == found["eval/accuracy", "arithmetic/easy"]["value"]
    assert summary.key_metric in summary.metrics


def test_payload_depends_on_identity_fields_alone_and_a_rerun_repeats_no_record(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    digests = set()
    for folder, rows in (("one", 128), ("two", 2), ("one", 128)):
        evaluate(inputs, tmp_path / folder, batch_rows=rows)
        digests.add(hashlib.sha256((tmp_path / folder / "output/results.json").read_bytes()).hexdigest())
    assert len(digests) == 1
    records = list(read_records(tmp_path / "one/attempt/records.jsonl"))
    keys = [(r["stage"], r["name"], r["step"], r["task"], r["split"]) for r in records]
    assert len(keys) == len(set(keys)) > 10


def test_a_pair_of_the_training_text_is_found_and_never_tested(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = a_test_pair()
    first = Arithmetic("easy").examples("test", 3, 0)
    asked: list[str] = []

    def examples(self: Arithmetic, split: str, n: int, seed: int) -> list[Any]:
        example = first[0]
        question = {"role": "user", "content": f"What is {pair[0]} + {pair[1]}?"}
        messages = [question, example.conversation["messages"][1]]
        given_away = type(example)("given-away", {"messages": messages}, "0")
        return [given_away, *first]

    grade = Arithmetic.grade
    monkeypatch.setattr(Arithmetic, "examples", examples)
    monkeypatch.setattr(Arithmetic, "grade", lambda *args: asked.append(args[1].id) or grade(*args))
    results, _ = evaluate(inputs, tmp_path, tasks=["arithmetic/easy"], bpb=False, num_problems=3)
    assert asked == [example.id for example in first]
    assert results["contamination"]["test_pairs_in_training_text"] == 1


def test_base_is_sampled_as_plain_text(inputs: dict[str, Path], tmp_path: Path) -> None:
    results, summary = evaluate(inputs, tmp_path, stage="eval-base", tasks=[])
    assert results["samples"][0]["prompt"] == "The first thing to do is"
    assert summary.key_metric == "val_bpb"


def test_only_the_modules_of_the_chosen_tasks_count() -> None:
    assert "docs" not in EvaluateConfig(tasks=["identity"]).task_modules()
    assert "verbs" in EvaluateConfig(tasks=["docs"]).task_modules()


def test_a_model_that_does_not_fit_is_refused_in_one_line(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="is no model"):
        open_model(tmp_path)
    config = json.loads((inputs["model"] / "config.json").read_text())
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((inputs["model"] / name).read_bytes())
    for change, message in (({"vocab_size": 300}, "tokenizer has 265"), ({"depth": 3}, "does not fit")):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(DataError, match=message) as caught:
            open_model(tmp_path)
        assert "\n" not in str(caught.value)
