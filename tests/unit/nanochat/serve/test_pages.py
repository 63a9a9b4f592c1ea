"""The pages: complete, escaped, without anything from elsewhere, and errors that say what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nanochat.config.pipeline import resolve
from nanochat.model.cost import parameters
from nanochat.serve.app import create_app
from tests.unit.nanochat.serve.made_up_catalog import MadeUpCatalog

RUN = "/runs/20261122T030405.000000-demo"
PAGES = {
    "/": "Chat", "/models": "Models", "/artifacts": "Artifacts", "/artifacts/base/demo@v2": "base/demo@v2",
    "/lineage/report/demo@v1": "Lineage of", "/lineage/report/demo@v1?forward=true": "Lineage of",
    "/runs": "Runs", RUN: "Run demo",
    "/evals": "Evaluations", "/tokenizer": "Tokenizer", "/calculator": "Calculator",
}  # fmt: skip


@pytest.fixture
def catalog(tmp_path: Path) -> MadeUpCatalog:
    return MadeUpCatalog(tmp_path)


@pytest.fixture
def client(catalog: MadeUpCatalog) -> TestClient:
    return TestClient(create_app(catalog), raise_server_exceptions=False)


@pytest.mark.parametrize(("path", "heading"), PAGES.items())
def test_each_page_has_a_title_a_way_around_and_nothing_inline(
    path: str, heading: str, client: TestClient
) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert re.search(r"<title>.+ · nanochat</title>", answer.text)
    assert f">{heading}" in answer.text
    assert 'class="skip"' in answer.text
    assert "aria-current" in answer.text
    assert not re.search(r"<style|<script(?! type=\"module\" src=\"/static/)| style=| on[a-z]+=", answer.text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!127)', answer.text), "nothing from elsewhere"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_every_link_of_ours_leads_somewhere(client: TestClient) -> None:
    found = {
        link
        for path in PAGES
        for link in re.findall(r'(?:href|src|action)="(/[^"]*)"', client.get(path).text)
    }
    assert "/static/chat.js" in found
    elsewhere = (
        "/artifacts/",
        "/lineage/",
        "/models/alias",
    )  # of artifacts the catalog only pretends to have
    for link in sorted(link for link in found if not link.startswith(elsewhere)):
        assert client.get(link.replace("&amp;", "&")).status_code == 200, link


def test_what_scripts_import_is_there(client: TestClient) -> None:
    pending, seen = ["chat.js", "live.js"], set()
    while pending:
        name = pending.pop()
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith("text/javascript")
        assert not re.search(
            r"innerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function", answer.text
        )
        seen.add(name)
        pending += set(re.findall(r'from "\./([^"]+)"', answer.text)) - seen
    assert len(seen) > 8


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpages.py", "../pages.py", "%2e%2e/templates/page.html"])
def test_no_other_file_is_served(name: str, client: TestClient) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_an_old_link_to_the_style_works(client: TestClient) -> None:
    assert client.get("/style.css").headers["content-type"].startswith("text/css")


def test_the_page_that_asks_for_a_key_needs_no_other_file(client: TestClient) -> None:
    answer = client.get("/login")
    assert not re.search(r'(?:src|href)="/', answer.text)
    assert re.search(r"style-src 'sha256-[\w+/]{43}='", answer.headers["content-security-policy"])
    assert 'type="password" name="key"' in answer.text


def test_models_show_metrics_aliases_and_ways_on(client: TestClient) -> None:
    text = client.get("/models").text
    for said in (
        "accuracy</span> 0.62",
        ">prod</span>",
        'href="/?model=rl/demo%40v1"',
        'href="/lineage/base/demo@v1"',
    ):
        assert said in text, said
    assert "model=base" not in text, "a base model has seen no conversations"


def test_an_alias_is_set_and_the_page_comes_back_to_the_model(
    client: TestClient, catalog: MadeUpCatalog
) -> None:
    form = {"ref": "sft/demo@v1", "alias": " prod "}
    answer = client.post("/models/alias", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/models#sft/demo@v1")
    assert "prod" in catalog.aliases["sft/demo@v1"]


@pytest.mark.parametrize(
    ("form", "headers", "status", "said"),
    [
        ({"ref": "sft/demo@v1", "alias": "latest"}, {}, 400, "moves by itself"),
        ({"ref": "sft/demo@v1", "alias": " "}, {}, 400, "no alias was given"),
        ({"ref": "sft/demo@v1", "alias": "prod"}, {"sec-fetch-site": "cross-site"}, 403, "another site"),
    ],
)
def test_an_alias_that_is_refused_changes_nothing(
    form: dict[str, str],
    headers: dict[str, str],
    status: int,
    said: str,
    client: TestClient,
    catalog: MadeUpCatalog,
) -> None:
    answer = client.post("/models/alias", data=form, headers=headers)
    assert (answer.status_code, said in answer.text) == (status, True)
    assert "sft/demo@v1" not in catalog.aliases


def test_lineage_is_a_picture_and_a_table(client: TestClient, catalog: MadeUpCatalog) -> None:
    text = client.get("/lineage/report/demo@v1").text
    assert text.count("<rect") == 12
    assert '<a href="/artifacts/shards/demo@v1" class="node">' in text
    assert text.count('<td class="soft">') == len(catalog.lineage("", forward=False).edges), (
        "all in the table"
    )


def test_a_running_stage_shows_its_curve(client: TestClient, catalog: MadeUpCatalog) -> None:
    for path in ("/runs", "/runs/now"):
        text = client.get(path).text
        assert 'aria-label="base, train/loss: train/loss from 6.2 at 0' in text
        assert '<progress max="1" value="0.36"' in text
    assert "<html" not in client.get("/runs/now").text
    catalog.is_working = False
    assert "Nothing is running" in client.get("/runs/now").text


def test_a_run_shows_stages_curves_and_prefect(client: TestClient) -> None:
    text = client.get(RUN).text
    assert text.count('class="status ran"') == 10
    assert 'href="http://127.0.0.1:4200/runs/flow-run/1"' in text
    assert "base, nats/token: train/loss from" in text
    assert "; val_loss from" in text, "training and validation share a picture"
    assert client.get("/runs/nothing").status_code == 404


def test_evaluations_show_trends_with_intervals(client: TestClient, catalog: MadeUpCatalog) -> None:
    text = client.get("/evals").text
    assert text.count('class="whisker"') == 3 * 9
    for said in ("34.0 – 48.0%", "−21.0 pp", "Worse: arithmetic/hard: 0.63"):
        assert said in text, said
    catalog.nights = 1
    text = client.get("/evals").text
    assert '<svg class="chart"' not in text
    assert "93.0 – 98.0%" in text
    catalog.nights = 0
    assert "nanochat run demo" in client.get("/evals").text


def test_the_tokenizer_shows_each_token(client: TestClient) -> None:
    text = client.get("/tokenizer", params={"text": "a <b>é</b>\n", "special": "true"}).text
    assert "&lt;b&gt;" in text
    assert "<b>é" not in text
    assert "single byte" in text
    assert "&lt;|bos|&gt;" in text
    assert "Vocabulary</h2>" not in text
    assert "at most 4,000" in client.get("/tokenizer", params={"text": "x" * 4001}).text
    assert "did you mean" in client.get("/tokenizer", params={"ref": "tokenizer/x"}).text


def test_the_calculator_says_what_the_command_says(client: TestClient) -> None:
    total = parameters(resolve("d12")["base"].model).total
    assert f"{total:,}" in client.get("/calculator").text
    assert f"{total:,}" not in client.get("/calculator?depth=8").text
    price = re.search(r"<b>\$([\d.]+)</b>", client.get("/calculator?price=10").text)
    assert price
    assert float(price[1]) == pytest.approx(1.69 * 10 / 3, rel=0.01)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("depth=x", "depth"), ("depth=9999", "depth"), ("mfu=2", "at most 1"), ("price=-1", "above 0"),
        ("gpu=abacus", "unknown GPU"), ("preset=d13", "unknown preset"), ("price=nan", "above 0"),
        (f"depth={'9' * 5000}", "depth has 5,000 characters"), (f"preset={'x' * 99}", "preset has 99 char"),
    ],
)  # fmt: skip
def test_a_wrong_number_is_said_on_the_page(query: str, said: str, client: TestClient) -> None:
    answer = client.get(f"/calculator?{query}")
    assert answer.status_code == 200
    assert re.search(f'class="wrong" role="alert">[^<]*{said}', answer.text)
    assert "--set" not in answer.text
