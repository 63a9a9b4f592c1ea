"""What registering again leaves as people have set it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from flows.services import register


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Deployment -> what Prefect was told of it; filled by ``deploy``."""
    told: dict[str, Any] = {}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        project = yaml.safe_load(Path(command[-1]).read_text(encoding="utf-8"))
        told.update({deployment["name"]: deployment for deployment in project["deployments"]})
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    return told


def test_a_deployment_is_told_its_schedules_until_it_has_some(deployed: dict[str, Any]) -> None:
    assert register.deploy() == 3, "the exit code of prefect deploy"
    (nightly,) = deployed["nightly-eval"]["schedules"]
    assert (nightly["cron"], nightly["active"]) == ("0 3 * * *", False)
    before = dict(deployed)
    register.deploy({"nightly-eval"})
    assert "schedules" not in deployed["nightly-eval"]
    assert deployed["gc"] == before["gc"]
    assert "schedules" in deployed["gc"]


class Found:
    """Stands for Prefect's automations: one is there, switched on by somebody."""

    def __init__(self, wanted: Any, monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
        self.done: list[str] = []
        self.there = there
        for name in ("acreate", "aupdate"):
            monkeypatch.setattr(type(wanted), name, self._call(name))
        monkeypatch.setattr(type(wanted), "aread", self._read)

    def _call(self, name: str) -> Any:
        async def call(automation: Any) -> None:
            self.done.append(f"{name}, {'on' if automation.enabled else 'off'}")

        return call

    async def _read(self, **_: Any) -> Any:
        if not self.there:
            raise ValueError("no automation of that name")
        return register._on_publish(UUID(int=1)).model_copy(update={"enabled": True})


@pytest.mark.parametrize(
    ("there", "editable", "done"),
    [(False, True, ["acreate, off"]), (True, False, ["aupdate, on"]), (True, True, [])],
)
def test_an_automation_that_is_switched_on_stays_on(
    monkeypatch: pytest.MonkeyPatch, there: bool, editable: bool, done: list[str]
) -> None:
    wanted = register._on_publish(UUID(int=1))
    found = Found(wanted, monkeypatch, there=there)
    asyncio.run(register._put_automation(wanted, editable=editable))
    assert found.done == done
