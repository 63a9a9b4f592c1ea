"""What Prometheus reads."""

from __future__ import annotations

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.nanochat.serve.scripted import Setup, ask


def test_requests_models_and_tokens_are_counted() -> None:
    with TestClient(Setup(slots=4).app) as client:
        client.post("/v1/chat/completions", json=ask())
        client.post("/v1/chat/completions", json=ask(max_tokens=0))
        client.get("/made/up/path")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    path = "/v1/chat/completions"
    assert found["nanochat_requests_total", path, "200", "POST"] == 1 or (
        found["nanochat_requests_total", *sorted((path, "200", "POST"))] == 1
    )
    assert found["nanochat_requests_total", *sorted((path, "400", "POST"))] == 1
    assert found["nanochat_requests_total", *sorted(("other", "404", "GET"))] == 1
    assert found["nanochat_models_loaded",] == 1
    assert found["nanochat_slots", "sft/demo@v1"] == 4
    assert found["nanochat_running", "sft/demo@v1"] == 0
    assert found["nanochat_generated_tokens_total", "sft/demo@v1"] == 3
    assert found["nanochat_first_token_seconds_count", "sft/demo@v1"] == 1
