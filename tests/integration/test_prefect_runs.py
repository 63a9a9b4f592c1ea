"""``tiny`` from a trigger to its artifacts, on what ``nanochat up`` starts; what the how-to pages type."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.dag import STAGE_IDS

# What the quick start tells people to type, word for word.
_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "08_quickstart.md").read_text(encoding="utf-8")
RUN = re.findall(r"^(prefect deployment run .*)$", _PAGE, re.MULTILINE)[0]
HOWTO = sorted((_DOCS / "howto").glob("*.md"))


@pytest.fixture(scope="module")
def run_ids(server: Any) -> list[str]:
    """The same deployment run twice, one after the other: ids of both flow runs."""
    known = {run["id"] for run in server.runs("pipeline")}
    server.types(f"{RUN} --watch --watch-interval 2")
    (first,) = [run for run in server.runs("pipeline") if run["id"] not in known]
    again = server.run("pipeline", **first["parameters"]["params"])
    assert [first["state_name"], again["state_name"]] == ["Completed", "Completed"]
    return [first["id"], again["id"]]


def test_the_first_run_builds_every_stage(server: Any, run_ids: list[str]) -> None:
    by_stage = server.states(run_ids[0])
    assert [by_stage.get(stage) for stage in STAGE_IDS] == [{"Completed"}] * len(STAGE_IDS)


def test_the_second_run_shows_every_stage_cached(server: Any, run_ids: list[str]) -> None:
    by_stage = server.states(run_ids[1])
    assert [by_stage.get(stage) for stage in STAGE_IDS] == [{"Cached"}] * len(STAGE_IDS)


def test_a_task_run_says_depth_artifact_and_kind(server: Any, run_ids: list[str]) -> None:
    base = next(task for task in server.tasks(run_ids[0]) if task["name"].startswith("base "))
    assert base["name"] == "base d2 base/tiny"
    assert {"nanochat", "base", "tiny", "torchrun"} <= set(base["tags"])
    assert base["empirical_policy"]["retries"] == 1


def test_tables_progress_and_curves_are_prefect_artifacts(server: Any, run_ids: list[str]) -> None:
    artifacts = server.artifacts()
    for stage in STAGE_IDS:
        rows = json.loads(artifacts[f"tiny-{stage}-metrics"]["data"])
        assert rows[0]["name"] == "artifact"
        assert float(artifacts[f"tiny-{stage}-progress"]["data"]) == 100
    assert not [key for key in artifacts if "shard-" in key], "one of each shard would replace the other"
    for stage in ("base", "mid", "sft", "rl"):
        assert artifacts[f"tiny-{stage}-loss"]["data"].startswith(
            f"![{stage} of tiny](data:image/png;base64,"
        )
    run = json.loads(artifacts["tiny-run"]["data"])
    assert [row["stage"] for row in run] == list(STAGE_IDS)


def test_a_stage_reaches_the_logs_of_the_flow_run_without_flooding(server: Any, run_ids: list[str]) -> None:
    logs = [log for log in server.everything("logs/filter") if log["flow_run_id"] == run_ids[0]]
    text = "\n".join(log["message"] for log in logs)
    assert "base: running" in text
    assert "step" in text, "nothing of what the program itself printed"
    assert len(logs) < 400


def test_training_was_started_by_torchrun(server: Any, run_ids: list[str]) -> None:
    for stage in ("base", "mid", "sft", "rl"):
        shown = json.loads(server.types(f"nanochat art show {stage}/tiny@v1 --json"))
        settings = shown["provenance"]["settings"]
        assert "torch.distributed.run" in settings["parent"]
        assert settings["torchrun"]


def test_a_run_links_to_its_artifacts_and_they_link_back(server: Any, run_ids: list[str]) -> None:
    links = re.findall(r"\]\((http://[^)]+)\)", server.artifacts()["tiny-artifacts"]["data"])
    assert [link.rpartition("/artifacts/")[2].partition("/")[0] for link in links].count("eval") == 4
    assert f"{server.web}/artifacts/base/tiny@v1" in links
    (report,) = [link for link in links if link.endswith(".html")]
    with urllib.request.urlopen(report, timeout=30) as answer:
        assert "<h1" in answer.read().decode()
    for link in set(links) - {report}:
        with urllib.request.urlopen(link, timeout=30) as answer:
            assert f"/runs/flow-run/{run_ids[0]}" in answer.read().decode()


def test_a_second_up_finds_the_first(server: Any) -> None:
    assert server.web in server.types("nanochat up")


@pytest.mark.criterion("T90")
def test_a_secret_of_the_environment_reaches_neither_server_nor_store(
    server: Any, run_ids: list[str]
) -> None:
    canary = server.environment["NANOCHAT_TEST_API_KEY"]
    shown = json.dumps(
        [server.everything("artifacts/filter"), server.everything("logs/filter"), server.tasks(run_ids[0])]
    )
    assert "tiny-base-metrics" in shown
    assert canary not in shown
    files = [path for path in server.home.rglob("*") if path.is_file()]
    assert [path for path in files if canary.encode() in path.read_bytes()] == []


def test_a_bad_parameter_is_refused_before_anything_runs(server: Any) -> None:
    done = server.terminal(RUN.replace("preset", "prest"))
    assert done.returncode != 0
    assert "prest" in done.stdout + done.stderr


def test_a_wrong_override_ends_the_run_in_one_line_before_anything_is_built(server: Any) -> None:
    failed = server.run("pipeline", preset="tiny", set={"base.stepz": 1})
    assert failed["state_name"] == "Failed"
    assert "base.stepz" in failed["state"]["message"]
    assert "base.steps" in failed["state"]["message"]
    assert server.tasks(failed["id"]) == []


def test_a_model_that_does_not_end_fails_its_check(server: Any, run_ids: list[str]) -> None:
    failed = server.run("serve-check", model="rl/tiny", max_tokens=3)
    assert failed["state_name"] == "Failed"
    assert "rl/tiny@v1 did not end its answer within 3 tokens" in failed["state"]["message"]


def test_gc_says_what_it_found(server: Any, run_ids: list[str]) -> None:
    assert server.run("gc", dry_run=True)["state_name"] == "Completed"
    assert {"what": "dry run", "value": True} in json.loads(server.artifacts()["gc"]["data"])


def test_the_form_offers_presets_and_stages_as_choices_and_texts_as_fields(server: Any) -> None:
    schema = server.deployment("pipeline")["parameter_openapi_schema"]
    fields = schema["definitions"]["PipelineParams"]["properties"]
    assert {"tiny", "demo", "speedrun"} <= set(fields["preset"]["enum"])
    assert fields["until"]["enum"] == list(STAGE_IDS)
    assert [fields[name]["type"] for name in ("name", "store")] == ["string", "string"]


@pytest.mark.needs("chromium")
def test_from_the_form_to_an_artifacts_page(
    server: Any, run_ids: list[str], browser: Any, test_output: Path
) -> None:
    browser.open(f"{server.ui}/v2/deployments/deployment/{server.deployment('pipeline')['id']}/run")
    browser.sees("Parameters")
    browser.click("button", "demo")
    browser.click("[role=option]", "tiny")
    browser.screenshot(test_output / "prefect-form.png")
    known = {run["id"] for run in server.runs("pipeline")}
    browser.click("button", "Submit")
    browser.sees("scheduled to start")
    (started,) = [run for run in server.runs("pipeline") if run["id"] not in known]
    assert started["parameters"]["params"]["preset"] == "tiny"
    assert server.ended(started["id"])["state_name"] == "Completed"
    browser.open(f"{server.ui}/v2/runs/flow-run/{started['id']}?tab=Artifacts")
    browser.sees("Completed")
    browser.sees("tiny-base-metrics")
    browser.screenshot(test_output / "prefect-run.png")
    page = f"{server.web}/artifacts/base/tiny@v1"
    browser.holds(f"[...document.querySelectorAll('a')].some(a => a.href === '{page}')")
    browser.open(page)  # a click would open another tab
    browser.sees("Used by")
    browser.screenshot(test_output / "artifact.png")
    browser.click("a", "this run")
    browser.sees("Task Runs")
    assert f"{server.ui}/runs/flow-run/" in browser.address.replace("/v2", "")


@pytest.fixture(scope="module")
def named_demo(server: Any, run_ids: list[str]) -> None:
    """What a reader has by the name of ``demo``."""
    server.types("nanochat run tiny --name demo")


@pytest.mark.parametrize("page", HOWTO, ids=lambda page: page.stem)
def test_every_command_of_a_how_to_page_works(
    server: Any, named_demo: None, page: Path, commands_of: Callable[[Path], list[str]]
) -> None:
    """What runs is found by ``nanochat up``; ``nanochat down`` ends it after the last test."""
    for command in commands_of(page):
        if command != "nanochat down":
            server.types(command)
