"""``nanochat tok eval`` and ``compare``: one tokenizer over kinds of text, several over the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from flows.adopt import adopt
from nanochat.tokenizer.inspection import SAMPLES
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import train_on_texts

Cli = Callable[..., Any]


def rows(cli: Cli, *arguments: str) -> list[dict[str, Any]]:
    said = json.loads(cli("tok", *arguments, "--json").out)
    assert said["absent"] == ["gpt2", "cl100k_base"]
    return list(said["rows"])


def test_eval_measures_the_samples(cli: Cli, tokenizer_folder: Path) -> None:
    found = rows(cli, "eval", "--tokenizer", str(tokenizer_folder))
    tokenizer = Tokenizer.load(tokenizer_folder)
    assert [row["text"] for row in found] == list(SAMPLES)
    for row in found:
        text = SAMPLES[row["text"]]
        assert (row["tokens"], row["characters"]) == (len(tokenizer.encode(text)), len(text))
        assert row["bytes_per_token"] == pytest.approx(len(text.encode()) / row["tokens"], abs=1e-4)
    out = cli("tok", "eval", "--tokenizer", str(tokenizer_folder)).out
    assert [line.split()[-1] for line in out.splitlines()[3:7]] == list(SAMPLES)


def test_eval_of_an_artifact_has_what_its_stage_measured(
    cli: Cli, tokenizer_store: Store, tokenizer_folder: Path, tmp_path: Path
) -> None:
    trained = Path(shutil.copytree(tokenizer_folder, tmp_path / "trained"))
    record = {"schema": 1, "rows": [
        {"tokenizer": "nanochat", "text": text, "bytes": 100, "tokens": 40, "bytes_per_token": 2.5}
        for text in ("news", "train", "val")
    ]}  # fmt: skip
    (trained / "compression.json").write_text(json.dumps(record))
    adopt(tokenizer_store, "tokenizer/trained", trained)
    found = rows(cli, "eval", "tokenizer/trained")
    assert [row["text"] for row in found] == [*SAMPLES, "train", "val"]
    assert found[-1] == {
        "tokenizer": "tokenizer/trained@v1", "text": "val", "bytes": 100, "tokens": 40,
        "bytes_per_token": 2.5, "characters": None, "tokens_per_byte": 0.4,
    }  # fmt: skip
    (trained / "compression.json").write_text('{"rows": [7]}')
    adopt(tokenizer_store, "tokenizer/damaged", trained)
    assert "compression.json has no rows" in cli("tok", "eval", "tokenizer/damaged", rc=3).err


def test_files_are_measured_too(cli: Cli, tokenizer_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("naïve")
    found = rows(cli, "eval", "--file", f"{tmp_path}/mine.txt", "--tokenizer", str(tokenizer_folder))
    assert found[-1]["text"] == f"{tmp_path}/mine.txt"
    assert (found[-1]["characters"], found[-1]["bytes"]) == (5, 6)
    ended = cli("tok", "eval", "--file", "none.txt", "--tokenizer", str(tokenizer_folder), rc=4)
    assert "none.txt: no such file" in ended.err


def test_compare_has_a_row_for_each_tokenizer_and_text(
    cli: Cli, tokenizer_store: Store, tokenizer_folder: Path, tmp_path: Path
) -> None:
    train_on_texts(["naïve words"], 267).save(tmp_path / "other.json")
    asked = ("compare", "tokenizer/real", "--tokenizer", f"{tmp_path}/other.json")
    found = rows(cli, *asked, "--text", "naïve")
    assert [(row["tokenizer"], row["text"], row["characters"], row["bytes"]) for row in found] == [
        ("tokenizer/real@v1", "naïve", 5, 6), (f"{tmp_path}/other.json", "naïve", 5, 6),
    ]  # fmt: skip
    assert found[0]["tokens"] == len(Tokenizer.load(tokenizer_folder).encode("naïve"))
    assert found[1]["tokens"] == len(Tokenizer.load(tmp_path / "other.json").encode("naïve"))
    assert len(rows(cli, *asked)) == 2 * len(SAMPLES)


def test_compare_without_a_name_takes_the_default(cli: Cli, tokenizer_store: Store) -> None:
    assert {row["tokenizer"] for row in rows(cli, "compare")} == {"tokenizer/real@v1"}
    assert "ref 'real' is incomplete" in cli("tok", "compare", "real", rc=2).err
