"""The manifests and Helm values: what Kubernetes takes, nobody runs as root, images and charts agree.

Whether the charts take the values, their own schemas say; those are not in this repository. What is relied
on here is the structure: names, Secrets, versions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanochat.serve.api.auth import OPEN
from nanochat.serve.settings import ServeSettings
from tests.unit.deployments.test_job_templates import as_kubernetes_reads_it

MANIFESTS = ("web.yaml", "register.yaml")


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "deployments/kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_it(name: str, folder: Path) -> None:
    for document in documents(folder / name):
        assert as_kubernetes_reads_it(document) == document


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_pod_is_nobody_and_may_nothing(name: str, folder: Path) -> None:
    for document in documents(folder / name):
        if "template" not in document["spec"]:
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1001
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert re.search(r":\d+\.\d+\.\d+$", container["image"])
            assert "memory" in container["resources"]["limits"]


def test_all_use_one_image(folder: Path, repository: Path) -> None:
    pages = [*folder.glob("*.yaml"), *(repository / "deployments/job_templates").glob("*.json")]
    pages += [repository / "deployments/compose.yaml", repository / "deployments/Dockerfile"]
    said = {tag for page in pages for tag in re.findall(r"nanochat-pipeline:[\w.]+", page.read_text("utf-8"))}
    version = re.search(
        r'^version = "(.+)"$', (repository / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    assert version
    assert said == {f"nanochat-pipeline:{version[1]}"}


def test_prefects_images_are_of_the_version_in_the_lock(folder: Path, repository: Path) -> None:
    locked = re.search(
        r"^prefect==(\S+)", (repository / "requirements.lock").read_text("utf-8"), re.MULTILINE
    )
    assert locked
    (server,), (worker,) = documents(folder / "server-values.yaml"), documents(folder / "worker-values.yaml")
    assert server["global"]["prefect"]["image"]["prefectTag"] == f"{locked[1]}-python3.11"
    assert worker["worker"]["image"]["prefectTag"] == f"{locked[1]}-python3.11-kubernetes"


def test_the_web_app_drains_and_says_whether_it_is_ready(folder: Path) -> None:
    pod = documents(folder / "web.yaml")[0]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > ServeSettings().drain_s
    (web,) = pod["containers"]
    assert web["command"] == ["python", "-m", "flows.services.web", "0.0.0.0", "4280"]
    assert "args" not in web
    paths = {probe: web[probe]["httpGet"]["path"] for probe in web if probe.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert set(paths.values()) == set(OPEN)  # a probe shows no key


def test_passwords_are_in_secrets_that_the_page_makes(folder: Path, repository: Path) -> None:
    said: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            said.update(text for key, text in value.items() if key == "existingSecret")
            for key in ("secretKeyRef", "secretRef"):
                said.update([value[key]["name"]] if key in value else [])
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(item)

    for path in folder.glob("*.yaml"):
        for document in documents(path):
            collect(document)
        assert not re.search(
            r"^\s*(password|authString|connectionString):", path.read_text("utf-8"), re.MULTILINE
        )
    page = (repository / "docs/howto/kubernetes.md").read_text("utf-8")
    assert said == set(re.findall(r"create secret generic ([\w-]+)", page))


def test_the_server_and_its_services_share_redis_and_a_database_of_ones_own(folder: Path) -> None:
    (values,) = documents(folder / "server-values.yaml")
    assert values["backgroundServices"]["runAsSeparateDeployment"] is True
    assert values["backgroundServices"]["messaging"]["redis"]["host"]
    assert values["postgresql"] == values["redis"] == {"enabled": False}
    assert values["server"]["basicAuth"]["enabled"] is True


def test_a_worker_serves_a_pool_that_there_is_and_makes_its_runs_say_that_they_live(
    folder: Path, repository: Path
) -> None:
    (values,) = documents(folder / "worker-values.yaml")
    config = values["worker"]["config"]
    assert f'"{config["workPool"]}": {{' in (repository / "deployments/pools.json").read_text("utf-8")
    assert config["type"] == "kubernetes"
    heartbeat = {"name": "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "value": "30"}
    assert heartbeat in values["worker"]["extraEnvVars"]
    api = values["worker"]["selfHostedServerApiConfig"]["apiUrl"]
    register = documents(folder / "register.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "PREFECT_API_URL", "value": api} in register["env"]
