"""Evaluations that nobody starts: on a schedule, after missed nights, and when a model is published."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

QUICK = {"tasks": ["arithmetic/easy"], "num_problems": 4}
AUTOMATION = "nanochat: evaluate a model that is published"


@pytest.fixture(scope="module")
def store(server: Any, store: Path) -> Path:
    """A store with base/tiny@v1, which is also ``prod``."""
    server.types(f"nanochat art alias base/tiny@v1 prod --store {store}")
    return store


@pytest.fixture(scope="module")
def published(server: Any, store: Path) -> dict[str, Any]:
    """The run that evaluated base/tiny@v2, a model of one step, when that was published."""
    (found,) = [made for made in server.read("automations/filter") if made["name"] == AUTOMATION]
    found["actions"][0]["parameters"]["params"] |= QUICK
    path, fields = f"automations/{found['id']}", ("name", "trigger", "actions")
    server.asks("PUT", path, {name: found[name] for name in fields} | {"enabled": True})
    asked = {"preset": "tiny", "set": {"base.steps": 1}, "until": "base"}
    made = server.run("pipeline", store=str(store), **asked)
    assert made["state_name"] == "Completed", made["state"]["message"]

    def evaluations() -> list[dict[str, Any]]:
        return [
            run for run in server.runs("evaluate") if run["parameters"]["params"].get("store") == str(store)
        ]

    server.until(evaluations)
    server.asks("PATCH", path, {"enabled": False})
    (run,) = evaluations()
    return dict(server.ended(run["id"]))


def test_a_model_is_evaluated_when_it_is_published(
    server: Any, store: Path, published: dict[str, Any]
) -> None:
    assert published["state_name"] == "Completed", published["state"]["message"]
    assert published["parameters"]["params"]["model"] == "base/tiny@v2"
    assert "eval/tiny-base-custom@v1" in server.types(
        f"nanochat art ls eval/tiny-base-custom --store {store}"
    )
    (event,) = [
        it for it in _events(server, "nanochat.model.published") if it["payload"]["store"] == str(store)
    ]
    assert event["payload"]["model"] == "base/tiny@v2"


@dataclass(frozen=True)
class Nights:
    """A night started by hand, then one that the schedule started, and Prefect's artifacts after each."""

    first: dict[str, Any]
    second: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture(scope="module")
def nights(server: Any, store: Path, published: dict[str, Any]) -> Nights:
    """Between the two, ``prod`` moves from base/tiny@v1 to base/tiny@v2."""
    first = server.run("nightly-eval", **_asked(store))
    before = server.artifacts()
    server.types(f"nanochat art alias base/tiny@v2 prod --store {store}")
    with _schedule(server, {"cron": "* * * * *", "timezone": "UTC"}, _asked(store)) as due:
        server.until(due)
        second = server.ended(due()[0]["id"])
    return Nights(first, second, before, server.artifacts())


def test_the_schedule_finds_that_a_model_got_worse(server: Any, nights: Nights) -> None:
    assert nights.first["state_name"] == "Completed", nights.first["state"]["message"]
    assert nights.second["auto_scheduled"]
    assert (nights.second["state_type"], nights.second["state_name"]) == ("FAILED", "Regressed")
    said = nights.second["state"]["message"]
    assert said.startswith("val_bpb: ")
    assert "since eval/tiny-base-prod@v1" in said
    event, *_ = _events(server, "nanochat.evaluation.regressed")
    assert event["resource"]["prefect.resource.name"] == "base/tiny@prod"
    assert event["payload"]["after"] > event["payload"]["before"] + 0.01


def test_every_night_is_a_row_and_the_picture_is_drawn_again(nights: Nights) -> None:
    (row,) = json.loads(nights.before["nightly-base-tiny-prod"]["data"])
    assert row["model"] == "base/tiny@v1"
    assert 0 <= row["arithmetic/easy"] <= 1
    rows = json.loads(nights.after["nightly-base-tiny-prod"]["data"])
    assert [row["model"] for row in rows] == ["base/tiny@v2", "base/tiny@v1"]
    pictures = [made["nightly-base-tiny-prod-trend"]["data"] for made in (nights.before, nights.after)]
    assert pictures[1].startswith("- **worse**: val_bpb")
    drawn = [picture.partition("data:image/png;base64,")[2] for picture in pictures]
    assert "" not in drawn
    assert drawn[0] != drawn[1]


def test_of_nights_that_were_missed_one_is_made_up_for(server: Any, store: Path, nights: Nights) -> None:
    """Nothing has changed since, so that its evaluation is found; with ``warn`` it completes."""
    server.asks("PATCH", "work_pools/cpu", {"is_paused": True})
    with _schedule(server, {"interval": 10}, _asked(store, on_regression="warn")) as due:
        server.until(lambda: len(due()) >= 3)
    missed = due()
    server.asks("PATCH", "work_pools/cpu", {"is_paused": False})
    ended = [server.ended(run["id"]) for run in missed]
    assert sorted(run["state_type"] for run in ended) == ["CANCELLED"] * (len(ended) - 1) + ["COMPLETED"]
    (made_up,) = [run for run in ended if run["state_type"] == "COMPLETED"]
    assert made_up["state_name"] == "Regressed"
    assert server.states(made_up["id"])["eval-base"] == {"Cached"}


def _asked(store: Path, **more: str) -> dict[str, Any]:
    """The parameters of a night."""
    return {"models": ["base/tiny"], "aliases": ["prod"], "store": str(store), **QUICK, **more}


@contextmanager
def _schedule(server: Any, when: dict[str, Any], asked: dict[str, Any]) -> Iterator[Callable[[], list[Any]]]:
    """Within, ``nightly-eval`` is scheduled; calling what it yields tells the runs whose time has come."""
    path = f"deployments/{server.deployment('nightly-eval')['id']}/schedules"
    wanted = {"schedule": when, "active": True, "parameters": {"params": asked}}
    (schedule,) = server.asks("POST", path, [wanted])

    def due() -> list[Any]:
        runs = [
            run
            for run in server.runs("nightly-eval")
            if (run["created_by"] or {}).get("id") == schedule["id"]
        ]
        return [
            run for run in runs if datetime.fromisoformat(run["expected_start_time"]) <= datetime.now(UTC)
        ]

    try:
        yield due
    finally:
        server.asks("PATCH", f"{path}/{schedule['id']}", {"active": False})


def _events(server: Any, name: str) -> list[dict[str, Any]]:
    """Prefect's events of that name; they are written some seconds after they happened."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = server.read("events/filter", filter={"event": {"name": [name]}})["events"]
        return bool(found)

    server.until(there)
    time.sleep(3)
    there()
    return found
