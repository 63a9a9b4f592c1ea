"""Work pools and their job templates: what Prefect takes, and the jobs that its worker makes of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from kubernetes_asyncio.client import ApiClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.server.schemas.actions import validate_base_job_template
from prefect.workers.process import ProcessJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

KINDS = ("process", "kubernetes")
LONG_NAME = "Base of the model called nightly experiment number 1742, which is a longer name than most"

Template = dict[str, Any]
Render = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def templates(repository: Path) -> dict[str, Template]:
    folder = repository / "deployments/job_templates"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def pools(repository: Path) -> dict[str, dict[str, Any]]:
    return json.loads((repository / "deployments/pools.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def render(templates: dict[str, Template]) -> Render:
    """``render(nodes=2)``: the job that Prefect's worker would make with these variables."""

    def rendered(**variables: Any) -> dict[str, Any]:
        template = templates["kubernetes"]
        jsonschema.validate(variables, template["variables"])
        made = KubernetesWorkerJobConfiguration.from_template_and_values(template, variables, client=_OFFLINE)
        configuration = _result(made)
        configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name=LONG_NAME))
        return configuration.job_manifest

    return rendered


_OFFLINE: Any = SimpleNamespace()  # nothing in a template is to be looked up on the server


def _result(coroutine: Any) -> Any:
    """What a coroutine that waits for nothing returns."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def as_kubernetes_reads_it(thing: dict[str, Any]) -> Any:
    """Through the types made from Kubernetes' OpenAPI: what these do not know comes out changed."""
    client = ApiClient.__new__(ApiClient)
    model = client.deserialize(SimpleNamespace(data=json.dumps(thing)), "V1" + thing["kind"])
    return client.sanitize_for_serialization(model)


def test_there_is_a_template_of_each_kind_and_both_pools(
    templates: dict[str, Template], pools: dict[str, Any]
) -> None:
    assert set(templates) == set(KINDS)
    assert set(pools) == {"cpu", "gpu"}


@pytest.mark.parametrize("kind", KINDS)
def test_prefect_takes_each_pool(
    kind: str, templates: dict[str, Template], pools: dict[str, dict[str, Any]]
) -> None:
    template = templates[kind]
    assert validate_base_job_template(template) == template, "each placeholder is a variable"
    variables = template["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    for name, pool in pools.items():
        WorkPoolCreate(name=name, type=kind, description=pool["description"], base_job_template=template)
        overrides = pool.get(kind, {})
        assert set(overrides) <= set(variables["properties"])
        jsonschema.validate(overrides, variables)
    defaults = {name: said["default"] for name, said in variables["properties"].items() if "default" in said}
    jsonschema.validate(defaults, variables)


@pytest.mark.parametrize("kind", KINDS)
def test_each_variable_is_used_and_explained(kind: str, templates: dict[str, Template]) -> None:
    text = json.dumps(templates[kind]["job_configuration"])
    for name, variable in templates[kind]["variables"]["properties"].items():
        assert f"{{{{ {name} }}}}" in text, name
        assert variable["title"], name


def test_the_template_for_processes_gives_what_a_process_worker_takes(templates: dict[str, Template]) -> None:
    template = templates["process"]
    made = _result(ProcessJobConfiguration.from_template_and_values(template, {}, client=_OFFLINE))
    assert made.stream_output is True
    assert set(template["job_configuration"]) <= set(ProcessJobConfiguration.model_fields)


def test_kubernetes_takes_the_job(render: Render) -> None:
    for variables in (
        {},
        {"nodes": 4, "gpus": 8},
        {"env": {"NANOCHAT_FAN_OUT": "ray"}, "labels": {"a": "b"}},
    ):
        job = render(**variables)
        for name in ("completions", "parallelism"):
            assert (
                pod(job).pop(name) == 1
            )  # Prefect's worker demands them here, where Kubernetes ignores them
        for amounts in pod(job)["containers"][0]["resources"].values():
            amounts["nvidia.com/gpu"] = str(amounts["nvidia.com/gpu"])  # a quantity may be a number
        assert as_kubernetes_reads_it(job) == job


@pytest.mark.parametrize("wrong", ["restartPolice", "terminationGracePeriod"])
def test_a_misspelt_field_would_be_seen(wrong: str, render: Render) -> None:
    job = render()
    pod(job)[wrong] = "1"
    assert wrong not in pod(as_kubernetes_reads_it(job))


def test_it_asks_for_what_the_variables_say(render: Render) -> None:
    job = render(gpus=8, cpus="64", memory="512Gi", shm_size="32Gi", node_selector={"gpu": "h100"})
    container = pod(job)["containers"][0]
    assert container["resources"]["limits"] == {"memory": "512Gi", "nvidia.com/gpu": 8}
    assert container["resources"]["requests"] == {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": 8}
    shm = next(volume for volume in pod(job)["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert pod(job)["nodeSelector"] == {"gpu": "h100"}
    assert pod(job)["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_a_pod_has_time_to_save_is_nobody_and_is_not_tried_again_by_kubernetes(render: Render) -> None:
    job = render()
    assert pod(job)["terminationGracePeriodSeconds"] >= 120
    with pytest.raises(jsonschema.ValidationError):
        render(termination_grace_seconds=30)
    assert job["spec"]["backoffLimit"] == 0
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    assert pod(job)["securityContext"]["runAsUser"] == 1001
    assert pod(job)["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod(job)["automountServiceAccountToken"] is False


def test_the_home_folder_may_outlive_the_pod(render: Render) -> None:
    claim = {"name": "home", "persistentVolumeClaim": {"claimName": "nanochat-home"}}
    assert claim in pod(render(home_volume=claim))["volumes"]
    (mount,) = [mount for mount in pod(render())["containers"][0]["volumeMounts"] if mount["name"] == "home"]
    assert mount["subPathExpr"] == "node-$(JOB_COMPLETION_INDEX)", "each node has a home folder of its own"


def test_several_nodes_are_one_indexed_job(render: Render) -> None:
    for nodes in (1, 3):
        spec = render(nodes=nodes)["spec"]
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", nodes, nodes)


@pytest.mark.parametrize(("index", "runs"), [("0", "prefect flow-run execute"), ("1", "nanochat node")])
def test_the_first_pod_carries_out_the_run_and_the_others_join_it(
    index: str, runs: str, render: Render, tmp_path: Path
) -> None:
    """The command of the container as its shell runs it, in pod ``index`` of the job base-x7k2p."""
    for program in ("prefect", "nanochat"):
        script = '#!/bin/sh\necho "$(basename "$0") $* $NANOCHAT_NODES $NANOCHAT_RENDEZVOUS"\n'
        (tmp_path / program).write_text(script)
        (tmp_path / program).chmod(0o755)
    container = pod(render(nodes=2))["containers"][0]
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "HOSTNAME": f"base-x7k2p-{index}",
        "JOB_COMPLETION_INDEX": index,
    }
    command = [*container["command"], *container["args"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{runs} 2 base-x7k2p-0.nanochat-nodes:29500"


def test_the_hostname_of_a_pod_is_a_name_that_dns_takes(render: Render) -> None:
    job = render(nodes=1000)
    assert len(job["metadata"]["generateName"]) + len("x7k2p-999") <= 63


def test_the_pods_are_found_by_the_service_of_their_name(render: Render, repository: Path) -> None:
    import yaml

    documents = yaml.safe_load_all((repository / "deployments/kubernetes/register.yaml").read_text("utf-8"))
    service = next(document for document in documents if document["kind"] == "Service")
    job = render()
    assert service["metadata"]["name"] == pod(job)["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
