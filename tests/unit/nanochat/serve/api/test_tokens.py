"""Text to tokens and back, without loading the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.unit.nanochat.serve.scripted import BYTES, Setup, Source, ask


class Folder(Source):
    """A source whose models have a real folder."""

    root: Path

    def folder(self, full: str) -> Path:
        super().folder(full)
        return self.root


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    BYTES.save(tmp_path)
    source = Folder()
    source.root = tmp_path
    return Setup(source=source)


def test_tokens_there_and_back(setup: Setup) -> None:
    with TestClient(setup.app) as client:
        answer = client.post("/tokenize", json={"model": "sft/demo", "text": "aé"}).json()
        assert answer["count"] == 3
        assert answer["tokens"][0] == {"id": 97, "text": "a", "bytes": "61"}
        assert answer["tokens"][1] == {"id": 195, "text": "\N{REPLACEMENT CHARACTER}", "bytes": "c3"}
        ids = [token["id"] for token in answer["tokens"]]
        assert client.post("/detokenize", json={"model": "sft/demo", "tokens": ids}).json() == {"text": "aé"}
        assert setup.schedulers == []
        client.post("/v1/chat/completions", json=ask())
        assert client.post("/tokenize", json={"model": "sft/demo", "text": "a"}).json()["count"] == 1
    assert setup.source.opened == ["sft/demo@v1"] * 2  # once for the tokenizer, once for the model


def test_special_tokens_in_a_text_are_text(setup: Setup) -> None:
    with TestClient(setup.app) as client:
        answer = client.post("/tokenize", json={"model": "sft/demo", "text": "<|bos|>"}).json()
    assert all(token["id"] < 256 for token in answer["tokens"])


@pytest.mark.parametrize(("path", "body", "status"), [
    ("/tokenize", {"model": "sft/demo", "text": "x" * 32_001}, 400),
    ("/tokenize", {"model": "sft/demo"}, 400),
    ("/tokenize", {"model": "sft/none", "text": "x"}, 404), ("/tokenize", {"text": "x"}, 400),
    ("/detokenize", {"model": "sft/demo", "tokens": [300]}, 400),
    ("/detokenize", {"model": "sft/demo", "tokens": [-1]}, 400),
    ("/detokenize", {"model": "sft/demo", "tokens": [1] * 32_001}, 400),
])  # fmt: skip
def test_refusals(setup: Setup, path: str, body: dict, status: int) -> None:
    with TestClient(setup.app) as client:
        answer = client.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
