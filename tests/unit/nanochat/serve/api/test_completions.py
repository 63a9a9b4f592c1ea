"""Completions: from text or ids, whole and streamed, with OpenAI's old form of log-probabilities."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.unit.nanochat.serve.scripted import BYTES, Setup

BOS = BYTES.special("bos")


def complete(setup: Setup, status: int = 200, **body: Any) -> Any:
    with TestClient(setup.app) as client:
        answer = client.post("/v1/completions", json={"model": "base/demo", **body})
    assert answer.status_code == status, answer.text
    return answer


@pytest.mark.parametrize(
    ("prompt", "ids"), [("ab", [BOS, 97, 98]), (["ab"], [BOS, 97, 98]), ([97, 98], [97, 98]), ("", [BOS])]
)
def test_a_prompt_is_text_or_ids(prompt: Any, ids: list[int]) -> None:
    setup = Setup()
    answer = complete(setup, prompt=prompt).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"][0] == {
        "index": 0,
        "text": "Hello you.",
        "logprobs": None,
        "finish_reason": "stop",
    }
    (request,) = setup.scheduler.requests
    assert list(request.prompt) == ids
    assert (request.max_tokens, request.tools) == (16, False)
    assert answer["usage"]["prompt_tokens"] == len(ids)


def test_logprobs_have_offsets_into_the_text() -> None:
    said = complete(Setup(), prompt="ab", logprobs=1).json()["choices"][0]["logprobs"]
    assert said["tokens"] == ["Hello", " you", "."]
    assert said["token_logprobs"] == [-0.5] * 3
    assert said["top_logprobs"][0] == {"x0": -1.0}
    assert said["text_offset"] == [2, 7, 11]


def test_a_stream_ends_with_the_reason_and_the_usage() -> None:
    text = complete(Setup(), prompt="ab", stream=True, stream_options={"include_usage": True}).text
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    *body, last, usage = map(json.loads, lines)
    assert "".join(chunk["choices"][0]["text"] for chunk in body) == "Hello you."
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("body", [
    {"prompt": [300]}, {"prompt": ["a", "b"]}, {"prompt": []}, {"prompt": 3}, {},
    {"prompt": "a", "echo": True}, {"prompt": "a", "best_of": 2}, {"prompt": "a", "n": 2},
    {"prompt": "a", "logprobs": 6}, {"prompt": "x" * 32_001}, {"prompt": "x" * 1000},
])  # fmt: skip
def test_what_cannot_be_completed_is_a_400(body: dict[str, Any]) -> None:
    assert "error" in complete(Setup(), 400, **body).json()
