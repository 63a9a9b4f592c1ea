"""Limits at their edges, exact types, and that nothing that is sent ends in a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nanochat.serve.api.schemas import Body, ChatRequest, CompletionRequest, DetokenizeRequest
from tests.unit.nanochat.serve.scripted import BYTES, Setup, ask

CHAT = "/v1/chat/completions"
CASES = 600


@pytest.fixture(scope="module")
def client() -> Any:
    setup = Setup(max_message_chars=100, max_total_chars=200, max_messages=5)
    setup.pool._tokenizers["sft/demo@v1"] = BYTES  # its folder is made up
    with TestClient(setup.app) as client:
        yield client


def turns(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return ask(messages=[{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)])


@pytest.mark.criterion("T74")
@pytest.mark.parametrize(("body", "status"), [
    (turns("x" * 100), 200), (turns("x" * 101), 400),
    (turns("x" * 100, "x" * 99, "x"), 200), (turns("x" * 100, "x" * 100, "x"), 200),
    (turns(*"12345"), 200), (turns(*"1234567"), 200), (ask(messages=[]), 400),
    (turns("x", "x" * 101, "x"), 200), (turns("x" * 101, "x", "x"), 400),
    (ask(temperature=0), 200), (ask(temperature=2), 200), (ask(temperature=2.01), 400),
    (ask(temperature=-0.1), 400), (ask(top_k=0), 200), (ask(top_k=200), 200), (ask(top_k=201), 400),
    (ask(max_tokens=1), 200), (ask(max_tokens=4096), 200), (ask(max_tokens=4097), 400),
    (ask(max_tokens=0), 400), (ask(top_p=1), 200), (ask(top_p=1.1), 400), (ask(top_logprobs=21), 400),
    (ask(logprobs=True, top_logprobs=20), 200), (ask(stop=["a"] * 4), 200), (ask(stop=["a"] * 5), 400),
    (ask(stop=""), 400), (ask(seed=2**63 - 1), 200), (ask(seed=2**63), 400), (ask(n=1), 200),
    (ask(n=2), 400), (ask(logit_bias={"1": 100}), 200), (ask(logit_bias={"1": 101}), 400),
    (ask(logit_bias={"x": 1}), 400), (ask(logit_bias={"-1": 1}), 400),
    (ask(messages=[{"role": "tool", "content": "x"}]), 400),
])  # fmt: skip
def test_limits_at_their_edges(client: TestClient, body: dict[str, Any], status: int) -> None:
    assert client.post(CHAT, json=body).status_code == status


@pytest.mark.parametrize("body", [
    ask(temperature="1"), ask(max_tokens=1.5), ask(max_tokens="5"), ask(stream="yes"), ask(stream=1),
    ask(top_k=True), ask(seed=1.0), ask(stop=3), ask(model=3), ask(messages="Hi"), ask(messages={"0": 1}),
    ask(messages=[3]), ask(messages=[{"role": "user"}]), ask(messages=[{"content": "Hi"}]),
    ask(messages=[{"role": "user", "content": None}]), ask(logit_bias=[1]), ask(stream_options=True), [], 3,
])  # fmt: skip
def test_a_wrong_type_is_a_400_that_names_the_field(client: TestClient, body: Any) -> None:
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"]
    assert (error["param"] is None) == (not isinstance(body, dict))


@pytest.mark.parametrize("content", [
    b"", b"{", b"\xff\xfe", b'{"temperature": NaN}', b"[" * 50_000, b'{"seed": 1' + b"0" * 5000 + b"}",
])  # fmt: skip
def test_what_is_no_json_is_a_400(client: TestClient, content: bytes) -> None:
    answer = client.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_json", "missing_required_parameter", "invalid_value")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_page_elsewhere_cannot_ask_without_leave(client: TestClient, kind: str) -> None:
    """Browsers send these types to other origins without asking first."""
    answer = client.post(CHAT, content=json.dumps(ask()), headers={"content-type": kind})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("harmless", [
    {"user": "me"}, {"metadata": {"a": "b"}}, {"store": False}, {"frequency_penalty": 0}, {"tools": []},
    {"presence_penalty": 0.0}, {"response_format": {"type": "text"}}, {"tools": None},
    {"parallel_tool_calls": True}, {"something_new": [1]}, {"stop": None}, {"tool_choice": "auto"},
])  # fmt: skip
def test_a_field_that_changes_nothing_is_ignored(client: TestClient, harmless: dict[str, Any]) -> None:
    assert client.post(CHAT, json=ask(**harmless)).status_code == 200


@pytest.mark.parametrize("wanted", [
    {"tools": [{"type": "function"}]}, {"response_format": {"type": "json_object"}}, {"functions": [{}]},
    {"frequency_penalty": 0.5}, {"presence_penalty": -1}, {"modalities": ["audio"]}, {"audio": {"a": "b"}},
    {"web_search_options": {"search_context_size": "low"}}, {"tool_choice": "required"},
])  # fmt: skip
def test_a_field_that_we_cannot_honour_is_refused(client: TestClient, wanted: dict[str, Any]) -> None:
    answer = client.post(CHAT, json=ask(**wanted))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(wanted))


@pytest.mark.parametrize("body", [
    {"messages": [{}] * 349_000}, ask(messages=[{"role": "user", "content": [{}] * 300_000}]),
    ask(logit_bias={str(n): "" for n in range(90_000)}), ask(stop=[""] * 300_000),
    ask(messages=[{"role": "user", "content": ""}] * 10_001),
])  # fmt: skip
def test_a_body_of_many_faults_is_refused_at_the_first(client: TestClient, body: dict[str, Any]) -> None:
    """All faults of the first one, described, take a second for each 100,000."""
    content = json.dumps(body, separators=(",", ":")).encode()
    with pytest.raises(ValidationError) as error:
        ChatRequest.model_validate_json(content)
    assert error.value.error_count() < 10
    answer = client.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400


@pytest.mark.parametrize(("schema", "body"), [
    (CompletionRequest, {"prompt": [""] * 200_000}), (CompletionRequest, {"prompt": [1] * 200_000}),
    (DetokenizeRequest, {"tokens": [{}] * 200_000}), (DetokenizeRequest, {"tokens": [1] * 200_000}),
])  # fmt: skip
def test_so_are_tokens(schema: type[Body], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        schema.model_validate_json(json.dumps(body))
    assert error.value.error_count() < 10


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | anything, "content": anything}
)
known = {
    "messages": st.lists(message | anything, max_size=4), "temperature": st.floats(-1, 3) | anything,
    "top_p": st.floats(-1, 2) | anything, "top_k": st.integers(-1, 300) | anything, "stop": anything,
    "max_tokens": st.integers(-1, 5000) | anything, "seed": anything, "n": anything, "stream": anything,
    "logprobs": anything, "top_logprobs": anything, "logit_bias": anything, "stream_options": anything,
    "tools": anything, "response_format": anything, "prompt": anything, "text": anything, "tokens": anything,
    "min_p": anything, "repetition_penalty": anything, "max_completion_tokens": anything,
}  # fmt: skip
body = st.fixed_dictionaries({"model": st.just("sft/demo@v1") | anything}, optional=known) | anything


@pytest.mark.criterion("T74")
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from([CHAT, "/v1/completions", "/tokenize", "/detokenize"]), body=body)
def test_whatever_is_sent_there_is_no_5xx(client: TestClient, path: str, body: Any) -> None:
    answer = client.post(
        path, content=json.dumps(body, allow_nan=False).encode(errors="surrogatepass"),
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code in (200, 400, 404), (body, answer.text)
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["code"]


def urls() -> list[str]:
    """Addresses that a server must never be talked into asking."""
    hosts = [
        "169.254.169.254", "127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:169.254.169.254]",
        "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.169.254.nip.io", "127.1", "0", "10.0.0.1",
        "user:pass@127.0.0.1", "metadata.google.internal", "[::ffff:7f00:1]", "127.0.0.1:{port}",
    ]  # fmt: skip
    schemes = [
        "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:{port}/", "data:text/plain,x",
        "dict://127.0.0.1:{port}/", "//127.0.0.1/", "jar:http://127.0.0.1!/", "http://127.0.0.1:{port}",
    ]  # fmt: skip
    return [f"http://{host}/" for host in hosts] + schemes


@pytest.mark.criterion("T92")
@pytest.mark.parametrize("url", urls())
def test_no_address_that_is_sent_is_ever_asked(
    client: TestClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of part that OpenAI would fetch is refused, and no name is looked up, nothing connected."""
    import socket

    asked: list[Any] = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda self, *to: asked.append(to))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *to, **more: asked.append(to))
    url = url.replace("{port}", "8000")
    for part in (
        {"type": "image_url", "image_url": {"url": url}}, {"type": "image_url", "image_url": url},
        {"type": "file", "file": {"file_data": url}}, {"type": "input_audio", "input_audio": {"data": url}},
        {"type": "input_image", "image_url": url},
    ):  # fmt: skip
        answer = client.post(CHAT, json=ask(messages=[{"role": "user", "content": [part]}]))
        assert answer.status_code == 400
    assert client.post(CHAT, json=ask(model=url)).status_code == 404
    assert client.post(CHAT, json=ask(url)).status_code == 200  # as text it is only text
    assert asked == []
