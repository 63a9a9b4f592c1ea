"""Chats: what the engine is asked, and its answer in OpenAI's form, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nanochat.engine.request import Delta, Failed
from tests.unit.nanochat.serve.scripted import BYTES, Setup, ask

CHAT = "/v1/chat/completions"
CALL = (
    Delta("text", "Well: "), Delta("python", "1+"), Delta("python", "1"), Delta("python_output", "2"),
    Delta("text", "it is 2."),
)  # fmt: skip


def chat(setup: Setup, body: dict[str, Any]) -> dict[str, Any]:
    with TestClient(setup.app) as client:
        answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def chunks(setup: Setup, body: dict[str, Any]) -> list[dict[str, Any]]:
    with TestClient(setup.app) as client:
        answer = client.post(CHAT, json={**body, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    *lines, last = [line for line in answer.text.split("\n\n") if line]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_an_answer_has_text_parts_usage_and_our_facts() -> None:
    answer = chat(Setup(CALL), ask())
    choice = answer["choices"][0]
    assert (answer["object"], answer["model"]) == ("chat.completion", "sft/demo@v1")
    assert choice["message"]["content"] == "Well: it is 2."
    assert choice["message"]["nanochat_parts"] == [
        {"type": "text", "text": "Well: "}, {"type": "python", "text": "1+1"},
        {"type": "python_output", "text": "2"}, {"type": "text", "text": "it is 2."},
    ]  # fmt: skip
    assert choice["finish_reason"] == "stop"
    usage, ours = answer["usage"], answer["nanochat"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5 == ours["context_used"]
    assert (ours["context_tokens"], ours["messages_dropped"], ours["cached_tokens"]) == (1000, 0, 1)
    assert ours["tokens_per_second"] > 0


def test_a_stream_says_the_same_and_tool_calls_are_apart() -> None:
    first, *middle, last = chunks(Setup(CALL), ask())
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in middle]
    assert "".join(delta.get("content", "") for delta in deltas) == "Well: it is 2."
    assert [delta["nanochat_tool"] for delta in deltas if "nanochat_tool" in delta] == [
        {"type": "python", "text": "1+"}, {"type": "python", "text": "1"},
        {"type": "python_output", "text": "2"},
    ]  # fmt: skip
    assert not [delta for delta in deltas if delta.keys() == {"content", "nanochat_tool"}]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["nanochat"]["context_used"]
    assert len({chunk["id"] for chunk in (first, *middle, last)}) == 1


def test_usage_comes_in_a_chunk_of_its_own_if_it_is_wanted() -> None:
    *rest, last = chunks(Setup(), ask(stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert all(chunk["usage"] is None for chunk in rest)
    assert all("usage" not in chunk for chunk in chunks(Setup(), ask()))


def test_logprobs_are_those_of_the_tokens() -> None:
    answer = chat(Setup(), ask(logprobs=True, top_logprobs=2))
    content = answer["choices"][0]["logprobs"]["content"]
    assert [one["token"] for one in content] == ["Hello", " you", "."]
    assert content[0]["logprob"] == -0.5
    assert content[2]["bytes"] == [46]
    assert [top["token"] for top in content[0]["top_logprobs"]] == ["x0", "x1"]
    streamed = chunks(Setup(), ask(logprobs=True))[1]["choices"][0]["logprobs"]["content"]
    assert (streamed[0]["token"], streamed[0]["top_logprobs"]) == ("Hello", [])
    assert chat(Setup(), ask())["choices"][0]["logprobs"] is None


def test_everything_that_was_asked_reaches_the_engine() -> None:
    setup = Setup()
    chat(setup, ask(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.2, max_tokens=9, seed=3,
        stop=["a", "b"], logit_bias={"65": -100},
    ))  # fmt: skip
    (request,) = setup.scheduler.requests
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.1, 1.2)
    assert (request.max_tokens, request.seed, request.stop) == (9, 3, ("a", "b"))
    assert (request.logit_bias, request.tools, request.logprobs) == ({65: -100.0}, True, None)
    assert request.deadline_s == pytest.approx(setup.settings.request_s, abs=1)


def test_what_is_not_said_is_as_at_openai_and_edges_mean_off() -> None:
    setup = Setup()
    chat(setup, ask(top_k=0, top_p=0, stop="x", max_completion_tokens=2, max_tokens=50))
    chat(setup, ask())
    (first,), (second,) = (scheduler.requests for scheduler in setup.schedulers)
    assert (first.sampling.top_k, first.stop, first.max_tokens) == (None, ("x",), 2)
    assert 0 < first.sampling.top_p < 1e-3
    assert (second.sampling.temperature, second.sampling.top_p, second.max_tokens) == (1.0, 1.0, 512)
    assert first.seed != second.seed


def test_a_prompt_has_the_system_text_and_the_parts_of_earlier_answers() -> None:
    setup = Setup()
    chat(setup, {"model": "sft/demo", "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "+1?"}]},
        {"role": "assistant", "content": [{"type": "python", "text": "1+1"}, {"type": "text", "text": "2"}]},
        {"role": "user", "content": "Sure?"},
    ]})  # fmt: skip
    assert BYTES.decode(setup.scheduler.requests[0].prompt) == (
        "<|bos|><|user_start|>Be brief.\n\n1+1?<|user_end|>"
        "<|assistant_start|><|python_start|>1+1<|python_end|>2<|assistant_end|><|user_start|>Sure?<|user_end|><|assistant_start|>"
    )


def test_a_long_chat_loses_its_oldest_exchanges_and_says_so() -> None:
    setup = Setup(context_tokens=200)
    turns = [{"role": role, "content": f"{n:02}" * 10} for n in range(10) for role in ("user", "assistant")]
    messages = [{"role": "system", "content": "S"}, *turns, {"role": "user", "content": "last"}]
    answer = chat(setup, {"model": "sft/demo", "messages": messages, "max_tokens": 50})
    dropped = answer["nanochat"]["messages_dropped"]
    prompt = BYTES.decode(setup.scheduler.requests[0].prompt)
    assert dropped % 2 == 0
    assert 10 < dropped < 20
    assert prompt.startswith("<|bos|><|user_start|>S\n\n")
    assert "09" * 10 in prompt
    assert len(setup.scheduler.requests[0].prompt) + 50 <= 200


def test_so_does_one_of_more_messages_or_characters_than_the_server_takes() -> None:
    turns = [{"role": role, "content": f"{n:02}"} for n in range(10) for role in ("user", "assistant")]
    messages = [{"role": "system", "content": "S"}, *turns, {"role": "user", "content": "last"}]
    for limits, dropped in (
        ({"max_messages": 6}, 16),
        ({"max_total_chars": 10}, 18),
        ({"max_messages": 1}, 21),
    ):
        setup = Setup(**{"max_message_chars": 10, **limits})
        answer = chat(setup, {"model": "sft/demo", "messages": messages})
        assert answer["nanochat"]["messages_dropped"] == dropped
        assert "last" in BYTES.decode(setup.scheduler.requests[0].prompt)


def test_a_last_message_that_does_not_fit_is_said_to_be_too_long() -> None:
    with TestClient(Setup().app) as client:
        assert client.post(CHAT, json=ask("x" * 1100)).json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(("max_tokens", "reason"), [(2, "length"), (3, "stop")])
def test_why_it_ended(max_tokens: int, reason: str) -> None:
    assert chat(Setup(), ask(max_tokens=max_tokens))["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("body", [
    {"model": "sft/demo", "messages": [{"role": "assistant", "content": "Hi"}]},
    {"model": "sft/demo", "messages": [{"role": "user", "content": "1"}, {"role": "user", "content": "2"}]},
    {"model": "sft/demo", "messages": [{"role": "user", "content": "\ud800"}]},
    {"model": "sft/demo", "messages": [{"role": "user", "content": [{"type": "python", "text": "1"}]}]},
    ask(logit_bias={"300": 1}), ask(top_logprobs=3), ask("x" * 1100), {"messages": ask()["messages"]},
])  # fmt: skip
def test_what_cannot_be_answered_is_a_400(body: dict[str, Any]) -> None:
    with TestClient(Setup().app) as client:
        answer = client.post(CHAT, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_failing_engine_is_a_500_and_in_a_stream_an_error() -> None:
    script = (Delta("text", "He"), Failed("out of memory"))
    with TestClient(Setup(script).app) as client:
        answer = client.post(CHAT, json=ask())
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "the engine failed; its log says why",
        "type": "server_error", "param": None, "code": "engine_failed",
    }  # fmt: skip
    assert chunks(Setup(script), ask())[-1]["error"]["message"] == "the engine failed; its log says why"
