"""Forms come from our own pages, within bounds."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from artifacts.errors import UsageError
from nanochat.serve.forms import MOST_BYTES, read_form

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.post("/")
    async def echo(request: Request) -> dict[str, str]:
        try:
            return await read_form(request)
        except UsageError as error:
            return {"error": error.message}

    return TestClient(app)


def test_fields_are_decoded(client: TestClient) -> None:
    assert client.post("/", content="a=1+2&b=%C3%A9&c=", headers=FORM).json() == {"a": "1 2", "b": "é"}


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"sec-fetch-site": "same-origin"}, True), ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False), ({"origin": "http://testserver"}, True),
        ({"origin": "http://evil.example"}, False), ({"origin": "null"}, False), ({}, True),
        ({"origin": "http://testserver", "sec-fetch-site": "cross-site"}, False),
    ],
)  # fmt: skip
def test_another_site_sends_nothing(headers: dict[str, str], passes: bool, client: TestClient) -> None:
    assert (client.post("/", content="a=1", headers=FORM | headers).json() == {"a": "1"}) is passes


@pytest.mark.parametrize(
    "body", ["x" * (MOST_BYTES + 1), "no form", "é=1", "&".join(f"a{i}=1" for i in range(21))]
)
def test_what_is_no_form_is_refused(body: str, client: TestClient) -> None:
    assert "error" in client.post("/", content=body.encode(), headers=FORM).json()
