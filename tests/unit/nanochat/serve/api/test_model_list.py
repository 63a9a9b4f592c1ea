"""The list of models, and one of them."""

from __future__ import annotations

from fastapi.testclient import TestClient

from tests.unit.nanochat.serve.scripted import Setup, ask


def test_models_are_artifacts_the_default_first() -> None:
    with TestClient(Setup(default="base/demo@v1").app) as client:
        client.post("/v1/chat/completions", json=ask())
        answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["base/demo@v1", "sft/demo@v1"]
    assert answer["data"][1] == {
        "id": "sft/demo@v1", "object": "model", "created": 1_700_000_000, "owned_by": "nanochat",
        "nanochat": {"aliases": ["latest"], "chat": True, "loaded": True},
    }  # fmt: skip
    assert answer["data"][0]["nanochat"] == {"aliases": ["latest"], "chat": False, "loaded": False}


def test_one_model_by_any_of_its_names() -> None:
    with TestClient(Setup().app) as client:
        for name in ("sft/demo@v1", "sft/demo", "sft/demo@latest", "sft%2Fdemo%40v1"):
            assert client.get(f"/v1/models/{name}").json()["id"] == "sft/demo@v1"
        for name in ("sft/none", "gpt-4", "tokenizer/demo@v1", "..%2f..%2fetc%2fpasswd"):
            answer = client.get(f"/v1/models/{name}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
