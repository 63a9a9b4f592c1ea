"""The pages of artifacts: complete, escaped, and errors that say what to do."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from nanochat.serve.app import create_app
from nanochat.serve.catalog import Row
from tests.unit.nanochat.serve.made_up_catalog import PAGE, Shown


class Fake(Shown):
    """A catalog of one artifact."""

    rows = (Row("base/demo@v2", ("latest",), "2026-11-22T03:04:05+00:00", 1_234_567, "val_bpb 1.807"),)

    def artifacts(self, limit: int) -> list[Row]:
        return list(self.rows[:limit])


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(Fake()), raise_server_exceptions=False)


def test_a_page_shows_all_that_is_known(client: TestClient) -> None:
    text = client.get("/artifacts/base/demo@v2").text
    for said in (
        "base/demo@v2", "latest", "prod", "2026-11-22 02:04 UTC", '<a href="/artifacts/tokens/demo@v1">',
        '<a href="/artifacts/sft/demo@v1">', "1.80655", "optim.lr_scale", "1234abcd", "nanochat run demo",
        "2.15.0", PAGE.digest, PAGE.fingerprint, "model.safetensors", "1.2 MB", f'<a href="{PAGE.run_url}">',
    ):  # fmt: skip
        assert said in text, said


def test_a_report_is_shown_as_it_is_and_nothing_in_it_runs(client: TestClient) -> None:
    answer = client.get("/artifacts/report/demo@v1/report.html")
    assert answer.text.startswith("<h1>numbers</h1>")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "; sandbox;" in policy
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/artifacts/base/demo@v1/model.html").status_code == 404


def test_what_an_artifact_says_stays_text(client: TestClient) -> None:
    text = client.get("/artifacts/base/demo@v2").text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>" not in text


def test_the_list_links_to_every_artifact(client: TestClient) -> None:
    assert '<a href="/artifacts/base/demo@v2">' in client.get("/artifacts").text
    empty = Fake()
    empty.rows = ()  # type: ignore[assignment]
    assert "nanochat run tiny" in TestClient(create_app(empty)).get("/artifacts").text


@pytest.mark.parametrize(("path", "status"), [("/artifacts/rl/x", 404), ("/artifacts/base/broken", 500)])
def test_an_error_is_a_page_that_says_what_to_do(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert re.search("did you mean base/demo|--force base", answer.text)


def test_nothing_is_loaded_from_elsewhere_and_nothing_inline_runs(client: TestClient) -> None:
    for path in ("/", "/artifacts/base/demo@v2", "/artifacts/rl/x", "/healthz", "/static/style.css"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
    assert "<script" not in client.get("/artifacts/base/demo@v2").text


def test_it_says_that_it_is_well(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/style.css").headers["content-type"].startswith("text/css")


def test_a_wrong_query_is_a_page_too(client: TestClient) -> None:
    for path in ("/tokenizer?special=xyz", "/lineage/base/demo?forward=maybe"):
        answer = client.get(path)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/html")
        assert re.search("special is .*xyz|forward is .*maybe", answer.text)
