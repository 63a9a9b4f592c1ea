"""What ``NANOCHAT_FAN_OUT`` may say, and what is refused before anything is spent."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts.backends.memory import MemoryBackend
from artifacts.errors import ResourceError, UsageError
from artifacts.store import Store
from flows.dispatch.fan_out import FanOut, fan_out_of

AWAY = "tcp://192.0.2.7:8786"  # an address that documentation may use and nobody has


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages, as far as ``check`` looks, and a server."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def bucket() -> Store:
    """A store that is no folder."""
    return Store(MemoryBackend())


@pytest.fixture
def listener() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("text", "kind", "address", "away"),
    [
        ("dask", "dask", "", False),
        ("ray", "ray", "", False),
        ("tcp://127.0.0.1:8786", "dask", "tcp://127.0.0.1:8786", False),
        ("dask://localhost:8786", "dask", "tcp://localhost:8786", False),
        ("dask://[::1]:8786", "dask", "tcp://[::1]:8786", False),
        ("dask://scheduler:8786", "dask", "tcp://scheduler:8786", True),
        (AWAY, "dask", AWAY, True),
        ("ray://head:10001", "ray", "ray://head:10001", True),
    ],
)
def test_a_value_names_a_cluster(text: str, kind: str, address: str, away: bool) -> None:
    found = FanOut.parse(text)
    assert found == FanOut(kind, address)
    assert found.away is away


def test_nothing_means_the_threads_of_the_flow(folder: Store) -> None:
    assert fan_out_of("", folder) is None


@pytest.mark.parametrize(
    "text",
    [
        "dsk", "Dask", "threads", "127.0.0.1:8786", "http://host:8786", "dask://", "dask://host", "tcp://host:port",
        "tcp://host:0", "tcp://:8786", "tcp://host:99999", "tcp://user@host:8786", "ray://host:10001/path",
        "tcp://host:8786?x", "tcp://[host:8786",
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_in_one_line(text: str, folder: Store) -> None:
    with pytest.raises(UsageError, match=r"^NANOCHAT_FAN_OUT = .* names no cluster \(write dask") as error:
        fan_out_of(text, folder)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_an_absent_package_is_named_with_its_extra(
    kind: str, folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match=rf"prefect-{kind} \(pip install 'nanochat-pipeline\[{kind}\]'\)"):
        fan_out_of(kind, folder)


def test_a_folder_on_this_host_is_no_store_for_workers_of_another(folder: Store) -> None:
    with pytest.raises(UsageError, match=rf"{AWAY} .* cannot reach .*/store \(keep the store in a bucket"):
        fan_out_of(AWAY, folder)


def test_workers_that_stay_need_a_server_that_stays(
    listener: str, bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    with pytest.raises(UsageError, match=r"outlive the Prefect server .*PREFECT_API_URL"):
        fan_out_of(f"tcp://{listener}", bucket)
    assert fan_out_of("dask", bucket)  # its workers end with the run


def test_a_cluster_that_answers_is_taken(listener: str, folder: Store) -> None:
    assert fan_out_of(f"dask://{listener}", folder) == FanOut("dask", f"tcp://{listener}")


@pytest.mark.parametrize(("scheme", "command"), [("tcp", "dask scheduler"), ("ray", "ray start --head")])
def test_one_that_does_not_is_refused_with_the_command_that_starts_it(
    scheme: str, command: str, folder: Store
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ResourceError, match=f"nothing answers at .*{address}: .*refused.*{command}"):
        fan_out_of(address, folder)


def test_the_check_imports_neither_prefect_nor_a_cluster(repository: Path) -> None:
    heavy = {"prefect", "distributed", "dask", "ray", "torch"}
    program = f"import sys, flows.dispatch.fan_out; print(*sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
