"""One line a request, whatever is in it; conversations only if that was asked for."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi.testclient import TestClient

from nanochat.serve.api.request_log import JsonLines, line
from tests.unit.nanochat.serve.scripted import Setup, ask

NASTY = [
    "a\rb",
    "a\nb",
    "\x1b[31mred",
    "a\u2028b\u2029",
    "\x7f\x00\x85",
    "\N{GRINNING FACE}" * 1000,
    "x" * 1_000_000,
]


@pytest.mark.criterion("T91")
@pytest.mark.parametrize("text", NASTY, ids=lambda text: repr(text[:8]))
def test_a_line_is_one_line_of_printable_ascii(text: str) -> None:
    said = line({"path": text, "question": text, "answer": text, "model": text, "client": text})
    assert len(said) <= 16 * 1024
    assert said.isascii()
    assert said.isprintable()
    assert json.loads(said)["path"].startswith(text[:3])


@pytest.mark.criterion("T91")
def test_what_a_client_sends_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "nanochat.serve"),
        TestClient(Setup(log_conversations=True).app) as client,
    ):
        for text in NASTY:
            client.post("/v1/chat/completions", json=ask(text[:900]))
        client.get("/v1/models/%0d%0a%1b[31m%e2%80%a8" + "x" * 3000)
        client.get("/a%0ab", headers={"User-Agent": "a\tb", "X-Forwarded-For": "1"})
    lines = [record.getMessage() for record in caplog.records if record.name == "nanochat.serve"]
    assert len(lines) == len(NASTY) + 2
    for said in lines:
        assert said.isascii()
        assert said.isprintable()
        assert len(said) <= 16 * 1024
        assert json.loads(said)["status"] in (200, 400, 404)


def test_conversations_are_logged_only_if_that_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    for asked in (False, True):
        caplog.clear()
        with caplog.at_level(logging.DEBUG), TestClient(Setup(log_conversations=asked).app) as client:
            client.post("/v1/chat/completions", json=ask("my secret question"))
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("nanochat")]
        (said,) = ours
        assert ("my secret question" in said) == asked
        assert ("Hello you." in said) == asked
        fields = json.loads(said)
        assert (fields["model"], fields["completion_tokens"], fields["ended"]) == ("sft/demo@v1", 3, "stop")


def test_being_asked_for_health_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nanochat.serve"), TestClient(Setup().app) as client:
        client.get("/healthz")
        client.get("/metrics")
    assert caplog.records == []


def test_a_traceback_is_one_line_too() -> None:
    try:
        raise ValueError("first\nsecond\x1b[0m")
    except ValueError as error:
        trace = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "it\nfailed", None, trace)
    said = JsonLines().format(record)
    assert said.isprintable()
    assert "ValueError" in json.loads(said)["trace"]


def test_a_bug_is_a_500_that_shows_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    setup.source.models = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with caplog.at_level(logging.INFO), TestClient(setup.app) as client:
        answer = client.get("/v1/models")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert answer.headers["content-security-policy"]
    assert "ZeroDivisionError" in caplog.text
    assert '"status": 500' in caplog.text
