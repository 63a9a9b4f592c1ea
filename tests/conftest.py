"""Isolation and skips for every test: no user's home, no telemetry, no network, no silent gap.

``needs("chromium")`` and ``shared_data`` tests are skipped where the thing is absent, and the summary
says so; named in ``NANOCHAT_REQUIRE=chromium,...`` its absence is a failure instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from filelock import FileLock

from artifacts.backends import Backend, open_backend
from artifacts.backends.memory import MemoryBackend
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft
from flows.services.s3_server import S3Server

ROOT = Path(__file__).resolve().parent.parent
CRITERIA = ROOT / "docs" / "reliability.md"
SYSTEM_PACKAGES = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "c++": ("c++", "g++", "clang++"),
    "cuda": (),
    "postgresql": ("postgres", "/usr/lib/postgresql/*/bin/postgres"),
    "weed": ("weed",),
}
BUCKET = "nanochat-tests"
PLACES = [
    pytest.param("file", id="file"),
    pytest.param("memory", id="memory"),
    pytest.param("moto", id="s3-moto"),
    pytest.param("weed", id="s3-weed", marks=pytest.mark.needs("weed")),
]
KEPT_SETTINGS = {"NANOCHAT_REQUIRE", "NANOCHAT_DATA_MIRROR", "NANOCHAT_PEER", "NANOCHAT_PEER_PYTHON"}

_home = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_home] = tempfile.TemporaryDirectory(prefix="nanochat-tests-", ignore_cleanup_errors=True)
    home = Path(config.stash[_home].name)
    for name in [name for name in os.environ if name.startswith(("NANOCHAT_", "PREFECT_", "AWS_"))]:
        if name not in KEPT_SETTINGS:
            del os.environ[name]
    os.environ.update(
        NANOCHAT_HOME=str(home / "nanochat"), PREFECT_HOME=str(home / "prefect"),
        PREFECT_PROFILES_PATH=str(home / "prefect" / "profiles.toml"),
        AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        MPLCONFIGDIR=str(home / "matplotlib"), HF_HOME=str(home / "huggingface"), HF_HUB_OFFLINE="1",
        DO_NOT_TRACK="1", PREFECT_SERVER_ANALYTICS_ENABLED="false",
    )  # fmt: skip
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
        # With more threads than cores, OpenMP's spin: it takes two to four times as long.
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // workers))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _home in config.stash:
        config.stash[_home].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "integration" not in item.path.parts)  # minutes each: first, beside the rest
    known = set(re.findall(r"^\| (T\d+) \|", CRITERIA.read_text(encoding="utf-8"), re.MULTILINE))
    for item in items:
        for marker in item.iter_markers("criterion"):
            if unknown := set(marker.args) - known:
                raise pytest.UsageError(f"{item.nodeid}: criterion {unknown} is not in {CRITERIA.name}")
            item.extra_keyword_matches.update(marker.args)  # so that -k T22 selects it


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = set(filter(None, os.environ.get("NANOCHAT_REQUIRE", "").split(",")))
    absent = [name for marker in item.iter_markers("needs") for name in marker.args if not find_system(name)]
    if item.get_closest_marker("shared_data") and not os.environ.get("NANOCHAT_DATA_MIRROR"):
        absent.append("NANOCHAT_DATA_MIRROR")
    for name in absent:
        if name in required:
            pytest.fail(f"{name} is absent, and NANOCHAT_REQUIRE names it", pytrace=False)
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")


def find_system(name: str) -> str | None:
    """A system package's program, or the name of a GPU; or None. KeyError for a name that nobody declared."""
    if name == "cuda":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    for candidate in SYSTEM_PACKAGES[name]:
        if found := shutil.which(candidate, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
            return found
        if matches := sorted(Path("/").glob(candidate[1:])) if candidate.startswith("/") else []:
            return str(matches[-1])
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = " ".join(str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    absent = Counter(", ".join(re.findall(r"Skipped: needs ([\w+, ]+)", reasons)).split(", "))
    absent.pop("", None)
    for name, count in sorted(absent.items()):
        terminalreporter.write_line(f"skipped {count} test(s): {name} is absent", yellow=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return ROOT


@pytest.fixture
def chromium() -> str:
    """The browser's path; for tests marked ``needs("chromium")``."""
    program = find_system("chromium")
    assert program
    return program


@pytest.fixture
def postgresql() -> Path:
    """The folder of PostgreSQL's programs; for tests marked ``needs("postgresql")``."""
    program = find_system("postgresql")
    assert program
    return Path(program).resolve().parent


@pytest.fixture(scope="session")
def test_output() -> Path:
    """A folder for what a person may want to look at afterwards (screenshots); git ignores it."""
    folder = ROOT / "test-output"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def commands_of() -> Callable[[Path], list[str]]:
    """The commands of a page: lines that begin with ``$`` in console blocks, continuation lines joined."""

    def commands(page: Path) -> list[str]:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        return [line[2:] for line in lines if line.startswith("$ ")]

    return commands


@pytest.fixture(scope="session")
def nanochat() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``nanochat("run", "tiny", home=folder)``: the command as a user starts it, ending with ``rc``."""
    program = Path(sys.executable).with_name("nanochat")

    def run(*arguments: str, home: Path, rc: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NANOCHAT_HOME": str(home), **more}
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == rc, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's own NANOCHAT_HOME; it is not there yet."""
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def draft() -> Callable[..., Draft]:
    """``draft("base", {"depth": 4})``: what a store is told of an artifact; another config, another one."""

    def make(stage: str = "base", config: dict[str, Any] | None = None, **fields: Any) -> Draft:
        payload = recipe(stage, 1, {"depth": 4} if config is None else config, inputs={}, modules={})
        return Draft(
            stage=stage, fingerprint=sha256_json(payload), recipe=payload, **({"kind": stage} | fields)
        )

    return make


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server on loopback, for tests marked ``needs("weed")``: the variables of its clients."""
    with S3Server(tmp_path_factory.mktemp("weed")) as server:
        server.make_bucket(BUCKET)
        yield server.environment


@pytest.fixture(scope="session")
def moto() -> Iterator[dict[str, str]]:
    """An S3 server that is quick and only looks like one: the variables of its clients.

    One request at a time: it looks at a condition first and writes later, so of two at once both may win.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication
    from moto.server import ThreadedMotoServer

    answer, lock = DomainDispatcherApplication.__call__, threading.Lock()

    def answer_alone(*request: Any) -> Any:
        with lock:
            return answer(*request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomainDispatcherApplication, "__call__", answer_alone)
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield _with_bucket({
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        })  # fmt: skip
        server.stop()


def _with_bucket(environment: dict[str, str]) -> dict[str, str]:
    key, secret = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    session = boto3.Session(key, secret, region_name=environment["AWS_REGION"])
    session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"]).create_bucket(Bucket=BUCKET)
    return environment


@pytest.fixture
def s3_place(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], str]:
    """``s3_place(variables of a server)``: this test's AWS clients use it; an empty ``s3://BUCKET/PREFIX``."""

    def use(environment: dict[str, str]) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"

    return use


@pytest.fixture(params=PLACES)
def backend(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    s3_place: Callable[[dict[str, str]], str],
) -> Backend:  # fmt: skip
    """An empty place of every kind, one after the other."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # only a power cut would miss it
    if request.param == "file":
        return open_backend(f"file://{tmp_path}/store")
    if request.param == "memory":
        return MemoryBackend()
    return open_backend(s3_place(request.getfixturevalue(request.param)) + "/sub")


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory, nanochat: Callable[..., object]) -> Path:
    """A home folder in which ``nanochat run tiny`` has finished once. For reading: to write, copy it.

    Where pytest has several workers, the first that needs it makes it for all.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    home, finished = shared / "tiny" / "home", shared / "tiny" / "finished"
    with FileLock(shared / "tiny.lock"):
        if not finished.exists():
            nanochat("run", "tiny", home=home)
            finished.touch()
    return home


@pytest.fixture
def own_home(tiny_home: Path, tmp_path: Path) -> Path:
    """A copy of that home, free to be changed."""
    shutil.copytree(tiny_home, tmp_path / "home", symlinks=True)
    return tmp_path / "home"
