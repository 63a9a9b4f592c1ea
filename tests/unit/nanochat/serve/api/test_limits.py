"""Bytes are counted as they come; requests by who sends them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from nanochat.serve.api import limits
from nanochat.serve.api.errors import ApiError, busy
from nanochat.serve.api.limits import RateLimit
from tests.unit.nanochat.serve.scripted import Setup, ask

JSON = {"content-type": "application/json"}


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not() -> None:
    with TestClient(Setup(body_bytes=1000).app) as client:
        for size, status in ((1000, 400), (1001, 413)):
            for content in (b" " * size, pieces(size)):
                assert client.post("/tokenize", content=content, headers=JSON).status_code == status
        error = client.post("/tokenize", content=b" " * 2000, headers=JSON).json()["error"]
        assert error["code"] == "body_too_large"


def pieces(size: int) -> Iterator[bytes]:
    """Without a length, it is sent in chunks."""
    yield from (b" " for _ in range(size))


def test_a_client_has_its_requests_back_after_a_while() -> None:
    now = 0.0
    limit = RateLimit(6, clock=lambda: now)
    for _ in range(6):
        limit.take("a")
    with pytest.raises(ApiError) as refusal:
        limit.take("a")
    assert refusal.value.status_code == 429
    assert refusal.value.headers == {"Retry-After": "10"}
    limit.take("b")
    now = 10.0
    limit.take("a")
    with pytest.raises(ApiError):
        limit.take("a")
    now = 1000.0
    for _ in range(6):
        limit.take("a")
    with pytest.raises(ApiError):
        limit.take("a")


def test_no_number_of_clients_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CLIENTS", 3)
    limit = RateLimit(1, clock=lambda: 0.0)
    for client in "abcd":
        limit.take(client)
    limit.take("a")  # forgotten
    with pytest.raises(ApiError):
        limit.take("d")


def test_answers_are_limited_by_key_and_lists_are_not() -> None:
    keys = ("first-key", "second-key")
    with TestClient(Setup(requests_per_minute=2, api_keys=keys).app) as client:
        first, second = ({"Authorization": f"Bearer {key}"} for key in keys)
        statuses = [
            client.post("/v1/chat/completions", json=ask(), headers=first).status_code for _ in range(3)
        ]
        assert statuses == [200, 200, 429]
        assert client.post("/v1/chat/completions", json=ask(), headers=second).status_code == 200
        assert client.get("/v1/models", headers=first).status_code == 200
        refused = client.post("/v1/completions", json={"prompt": "x"}, headers=first)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"


def test_who_is_told_when_to_come_again_is_not_told_too_early() -> None:
    assert [busy("", seconds).headers["Retry-After"] for seconds in (0.1, 1.0, 1.4, 2.5)] == [
        "1", "1", "2", "3",
    ]  # fmt: skip
