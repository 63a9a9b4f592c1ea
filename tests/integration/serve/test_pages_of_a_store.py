"""The pages over a store that a pipeline has filled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from artifacts.store import Store
from flows.catalog import StoreCatalog
from nanochat.serve.app import create_app


@pytest.fixture
def client(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("NANOCHAT_HOME", str(own_home))
    return TestClient(create_app(StoreCatalog(Store.open(create=False))))


def test_every_page_shows_what_the_run_has_made(client: TestClient) -> None:
    for path, said in {
        "/models": "rl/tiny@v1", "/artifacts": "report/tiny@v1", "/artifacts/rl/tiny": "nanochat run tiny",
        "/lineage/report/tiny": "shards/tiny@v1", "/lineage/shards/tiny?forward=true": "report/tiny@v1",
        "/runs": "of them run", "/evals": "eval/tiny-rl",
        "/tokenizer?ref=tokenizer/tiny": "tokens/byte",
        "/tokenizer?ref=base/tiny": "tokens/byte", "/runs/now": "Nothing is running",
    }.items():  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert said in answer.text, path
    (run,) = re.findall(r'href="(/runs/[^"]+tiny)"', client.get("/runs").text)
    text = client.get(run).text
    assert text.count('<svg class="chart"') >= 4
    assert "train/loss from" in text
    assert client.get("/artifacts/report/tiny@v1/report.html").status_code == 200


def test_every_link_leads_somewhere(client: TestClient) -> None:
    seen, pending = set(), ["/models", "/runs", "/evals"]
    while pending:
        path = pending.pop()
        answer = client.get(path)
        assert answer.status_code == 200, path
        seen.add(path)
        if path.startswith(("/static", "/tokenizer")) or path.endswith(".html"):
            continue
        links = set(re.findall(r'(?:href|src)="(/[^"#]*)"', answer.text))
        pending += links - seen - set(pending)
    assert len(seen) > 40
