"""``compose.yaml``: valid by the Compose specification, closed to the network, nothing in it runs as root.

No container was ever started from it: what these tests read, a Docker engine has not seen.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from nanochat.serve.settings import ServeSettings

SECRETS = (
    "PREFECT_AUTH",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
ENDS_BY_ITSELF = "register"
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    """The file with every variable replaced, as Docker would do it with a filled-in env.example."""
    values = settings(repository) | dict.fromkeys(SECRETS, "secret")

    def value(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        assert kind == "-" or values.get(name), f"{name} is empty, and nothing stands in for it"
        return values.get(name) or default or ""

    return _VARIABLE.sub(value, (repository / "deployments/compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(text)["services"]


def settings(repository: Path) -> dict[str, str]:
    lines = (repository / "deployments/env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_is_what_the_specification_allows(text: str) -> None:
    PyCompose.from_json(json.dumps(yaml.safe_load(text))).validate()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"stop_grace_periode": "1s"}, "periode"), ({"shm_size": "lots"}, "lots"), ({"image": "A:1"}, "'A'")],
)
def test_the_specification_is_strict(text: str, wrong: dict[str, str], says: str) -> None:
    """Otherwise the test above could not fail."""
    compose = yaml.safe_load(text)
    compose["services"]["web"] |= wrong
    with pytest.raises(ValueError, match=says):
        PyCompose.from_json(json.dumps(compose)).validate()


def test_everything_that_the_issue_names_is_there(services: dict[str, Any]) -> None:
    ours = {"server", "services", "register", "worker-cpu", "worker-gpu", "web", "s3"}
    assert set(services) == ours | {"postgres", "redis"}


def test_what_a_service_waits_for_is_there_and_can_be_waited_for(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            ends = how["condition"] == "service_completed_successfully"
            assert ends == (other == ENDS_BY_ITSELF), (name, other)
            optional = "profiles" in services[other] and services[other]["profiles"] != service.get(
                "profiles"
            )
            assert how.get("required", True) != optional, (name, other)


def test_each_service_is_checked_pinned_and_nobody(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"\d+:\d+", service["user"]), name
        assert not service["user"].startswith("0"), name
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"\d+\.\d+", tag), f"{name}: {tag} moves"
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert ("healthcheck" in service) == (name != ENDS_BY_ITSELF), name


def test_ports_are_published_on_loopback_and_no_folder_of_the_host_is_shared(
    services: dict[str, Any], text: str
) -> None:
    volumes = yaml.safe_load(text)["volumes"]
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in volumes, name


def test_the_database_and_redis_are_reached_by_the_server_alone(services: dict[str, Any], text: str) -> None:
    inner = yaml.safe_load(text)["networks"]["server"]
    assert inner == {"internal": True}
    there = {name for name, service in services.items() if "server" in service.get("networks", [])}
    assert there == {"postgres", "redis", "server", "services"}
    for name in ("postgres", "redis"):
        assert services[name]["networks"] == ["server"]
        assert "ports" not in services[name]


def test_a_worker_has_time_to_save_and_says_that_it_lives(services: dict[str, Any]) -> None:
    for name in ("worker-cpu", "worker-gpu"):
        worker = services[name]
        assert int(worker["stop_grace_period"].removesuffix("s")) >= 120
        assert worker["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        assert worker["environment"]["NANOCHAT_STORE"].startswith("s3://")
        assert worker["command"] == ["python", "-m", "deployments.worker", name.removeprefix("worker-")]
        assert "shm_size" in worker
    gpu = services["worker-gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in services["worker-cpu"]


def test_the_web_app_is_our_server_and_has_time_to_drain(services: dict[str, Any]) -> None:
    web = services["web"]
    assert web["command"] == ["python", "-m", "flows.services.web", "0.0.0.0", "4280"]
    assert int(web["stop_grace_period"].removesuffix("s")) > ServeSettings().drain_s


def test_several_server_processes_share_what_they_know_through_redis(services: dict[str, Any]) -> None:
    server, clock = services["server"], services["services"]
    assert "--no-services" in server["command"]
    assert clock["command"] == ["prefect", "server", "services", "start"]
    known = server["environment"]
    assert clock["environment"] == known | {"PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false"}
    for name in ("PREFECT_MESSAGING_BROKER", "PREFECT_MESSAGING_CACHE"):
        assert known[name] == "prefect_redis.messaging"
    assert known["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == "prefect_redis.lease_storage"
    assert known["PREFECT_SERVER_DOCKET_URL"].startswith("redis://")


def test_what_it_tells_prefect_prefect_knows(services: dict[str, Any]) -> None:
    """A misspelt setting would be ignored in silence."""
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields
    from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings
    from prefect_redis.client import RedisMessagingSettings

    known = set(_get_settings_fields(Settings))
    for more in (RedisMessagingSettings, RedisWorkerCleanupQueueSettings):
        prefix = more.model_config["env_prefix"]
        known |= {f"{prefix}{field}".upper() for field in more.model_fields}
    said = {name for service in services.values() for name in service.get("environment", {})}
    assert {name for name in said if name.startswith("PREFECT_")} - known == set()


def test_the_example_of_settings_holds_no_secret_and_names_all(repository: Path) -> None:
    page = (repository / "deployments/compose.yaml").read_text(encoding="utf-8")
    shown = (repository / "deployments/env.example").read_text(encoding="utf-8")
    asked = {match[1] for match in _VARIABLE.finditer(page)}
    named = set(re.findall(r"^#?(\w+)=", shown, re.MULTILINE)) - {"COMPOSE_PROFILES"}
    assert named == asked
    assert {name: value for name, value in settings(repository).items() if name in SECRETS} == dict.fromkeys(
        SECRETS, ""
    )
    assert (repository / ".dockerignore").read_text(encoding="utf-8").count("**/.env\n") == 1
