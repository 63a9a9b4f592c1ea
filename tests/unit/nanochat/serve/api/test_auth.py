"""With keys every route but /healthz asks for one; without, only this machine may use the models."""

from __future__ import annotations

import logging
import re

import pytest
from fastapi.testclient import TestClient

from nanochat.serve.api.auth import COOKIE
from tests.unit.nanochat.serve.scripted import Setup, ask

KEY, OTHER = "correct-horse-battery", "another-key-of-ours"
BEARER = {"Authorization": f"Bearer {KEY}"}


def guarded() -> TestClient:
    return TestClient(Setup(api_keys=(KEY, OTHER)).app)


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Every (method, path) of the app, an example for each parameter; also of routers in routers."""
    found: list[tuple[str, str]] = []

    def walk(inner: list) -> None:
        for route in inner:
            if hasattr(route, "methods"):
                path = re.sub(r"\{[^}]+\}", "x", route.path)
                found.extend((method, path) for method in route.methods or {"GET"})
            elif hasattr(route, "original_router"):
                walk(route.original_router.routes)
            elif hasattr(route, "path"):  # a folder of files
                found.append(("GET", f"{route.path}/x"))

    walk(client.app.router.routes)
    return found


@pytest.mark.criterion("T77")
def test_every_route_but_health_asks_for_a_key() -> None:
    client = guarded()
    found = routes(client)
    assert {("POST", "/v1/chat/completions"), ("GET", "/metrics"), ("GET", "/")} <= set(found)
    for method, path in [*found, ("GET", "/nothing"), ("GET", "/static/x"), ("DELETE", "/v1/models")]:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": KEY},
            {"Cookie": f"{COOKIE}=x"},
        ):
            status = client.request(method, path, headers=headers).status_code
            assert status == (200 if path in ("/healthz", "/readyz") else 401), (method, path, headers)


@pytest.mark.criterion("T77")
def test_no_key_gets_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), guarded() as client:
        assert client.post("/v1/chat/completions", json=ask(), headers=BEARER).status_code == 200
        client.get(f"/v1/models/{KEY}?key={KEY}", headers=BEARER)
        client.post("/login", json={"key": KEY})
        client.get("/", headers={"Authorization": f"Bearer {OTHER}-wrong"})
        client.get("/v1/models", headers={"Cookie": f"{COOKIE}={KEY}"})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("nanochat")]
    assert len(ours) >= 5
    assert not [text for text in ours if KEY in text or OTHER in text]


def test_a_key_opens_everything_as_a_header_and_as_a_cookie() -> None:
    with guarded() as client:
        odd = f'a b=1; {{"x": [1]}}; {COOKIE}={KEY}; @=2'
        bearer = {"Authorization": f"bearer  {OTHER}"}
        for headers in (BEARER, bearer, {"Cookie": f"{COOKIE}={KEY}"}, {"Cookie": odd}):
            assert client.get("/v1/models", headers=headers).status_code == 200
            assert client.post("/v1/chat/completions", json=ask(), headers=headers).status_code == 200


def test_a_login_sets_a_cookie_that_no_script_and_no_other_site_can_use() -> None:
    with guarded() as client:
        refused = client.post("/login", json={"key": "wrong"})
        assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
        answer = client.post("/login", json={"key": KEY})
        assert answer.status_code == 204
        assert re.search(r"HttpOnly.*SameSite=strict", answer.headers["set-cookie"], re.IGNORECASE)
        assert client.get("/").status_code == 200  # the client keeps the cookie
        typed = client.post("/login", data={"key": OTHER}, follow_redirects=False)
        assert (typed.status_code, typed.headers["location"]) == (303, "/")
        assert client.post("/login", data={"key": "wrong"}).status_code == 401


def test_keys_cannot_be_guessed_quickly() -> None:
    with guarded() as client:
        statuses = [client.post("/login", json={"key": f"guess {n}"}).status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2


@pytest.mark.parametrize(("server", "host", "path", "status"), [
    ("127.0.0.1", "127.0.0.1:8000", "/v1/models", 200), ("127.0.0.1", "localhost", "/v1/models", 200),
    ("::1", "[::1]:8000", "/v1/models", 200), ("127.0.0.1", "evil.example:8000", "/v1/models", 403),
    ("127.0.0.1", "evil.example", "/", 403), ("127.0.0.1", "evil.example", "/healthz", 200),
    ("10.0.0.5", "127.0.0.1", "/v1/models", 403), ("10.0.0.5", "web:4280", "/", 200),
    ("10.0.0.5", "web:4280", "/healthz", 200), ("10.0.0.5", "web:4280", "/readyz", 200),
    ("fd12::5", "[fd12::5]", "/v1/models", 403), ("fe80::1", "[fe80::1]", "/v1/models", 403),
    ("10.0.0.5", "web:4280", "/tokenizer?special=x", 400), ("10.0.0.5", "web:4280", "/metrics", 403),
    ("127.0.0.1", "localhost.evil.example", "/", 403),
])  # fmt: skip
def test_without_keys_only_this_machine_may_ask(server: str, host: str, path: str, status: int) -> None:
    client = TestClient(Setup().app, base_url=f"http://{f'[{server}]' if ':' in server else server}:8000")
    assert client.get(path, headers={"Host": host}).status_code == status


@pytest.mark.parametrize("server", ["10.0.0.5", "fd12::5", "127.0.0.1"])
def test_without_keys_no_other_machine_and_no_other_site_changes_anything(server: str) -> None:
    client = TestClient(Setup().app, base_url=f"http://{f'[{server}]' if ':' in server else server}:8000")
    for method, path in [("POST", "/models/alias"), ("POST", "/login"), ("DELETE", "/"), ("PUT", "/models")]:
        answer = client.request(method, path, headers={"Host": "evil.example"})
        assert answer.status_code == 403, (method, path)


def test_with_a_key_any_name_will_do() -> None:
    client = TestClient(Setup(api_keys=(KEY,)).app, base_url="http://10.0.0.5:8000")
    assert client.get("/v1/models", headers={"Host": "chat.example", **BEARER}).status_code == 200


def test_a_browser_is_asked_for_the_key() -> None:
    for path in ("/", "/login", "/models"):
        answer = guarded().get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 401
        assert '<form method="post" action="/login">' in answer.text
    assert "error" in guarded().get("/v1/models", headers={"Accept": "text/html"}).json()
