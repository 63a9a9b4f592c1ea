"""What ``nanochat up`` starts, as an operator uses it; and a real browser, driven as a person drives it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

CANARY = "canary-7f3a91c2-never-store-this"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE_S = 60
RUN_S = 240


@dataclass(frozen=True)
class Server:
    """A Prefect server with its workers and the web app, and the environment of a terminal beside it.

    ``home`` holds the store of its runs, ``fault`` is the file that makes a stage fail.
    """

    port: int
    web_port: int
    environment: dict[str, str]
    home: Path
    fault: Path

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def up(self) -> str:
        return self.types(f"nanochat up --port {self.port} --web-port {self.web_port}")

    def processes(self) -> list[psutil.Process]:
        """The supervisor, then all that it and its services have started; [] if nothing runs."""
        state = self.home / "services/state.json"
        if not state.exists():
            return []
        supervisor = psutil.Process(json.loads(state.read_text(encoding="utf-8"))["pid"])
        return [supervisor, *supervisor.children(recursive=True)]

    def services(self) -> dict[str, int]:
        """Service -> process id."""
        state = json.loads((self.home / "services/state.json").read_text(encoding="utf-8"))
        return {name: service["pid"] for name, service in state["services"].items()}

    def terminal(self, command: str) -> subprocess.CompletedProcess[str]:
        """What a shell in this environment makes of a line."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], env={**self.environment, "PATH": path},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400,
        )  # fmt: skip

    def types(self, command: str) -> str:
        """A line that has to succeed; what it printed."""
        done = self.terminal(command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def get(self, path: str) -> Any:
        return self.asks("GET", path)

    def read(self, path: str, **query: Any) -> Any:
        return self.asks("POST", path, query)

    def asks(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers. A locked database is asked again, as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.ui}/api/{path}", data, {"content-type": "application/json"}, method=method
        )
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(0.5)
        raise AssertionError(f"{path}: the database stayed locked")

    def is_well(self) -> bool:
        try:
            return bool(self.get("health"))
        except OSError:
            return False

    def everything(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a ``/filter`` route, page by page."""
        items: list[dict[str, Any]] = []
        while page := self.read(path, offset=len(items), limit=200, **query):
            items += page
        return items

    def artifacts(self) -> dict[str, dict[str, Any]]:
        """Key -> Prefect artifact, the newest of each key."""
        return {found["key"]: found for found in self.everything("artifacts/latest/filter")}

    def deployment(self, name: str) -> dict[str, Any]:
        """The one deployment of that name, whatever its flow is called."""
        (deployment,) = self.read("deployments/filter", deployments={"name": {"any_": [name]}})
        return dict(deployment)

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Its flow runs, the oldest first."""
        chosen = {"name": {"any_": [deployment]}}
        return self.everything("flow_runs/filter", deployments=chosen, sort="EXPECTED_START_TIME_ASC")

    def start(self, deployment: str, **params: Any) -> str:
        """The id of a new run."""
        path = f"deployments/{self.deployment(deployment)['id']}/create_flow_run"
        return str(self.read(path, parameters={"params": params})["id"])

    def run(self, deployment: str, **params: Any) -> dict[str, Any]:
        """Run a deployment to its end; the flow run."""
        return self.ended(self.start(deployment, **params))

    def retry(self, flow_run: str) -> None:
        """Until it runs again; a worker may say once more, and late, that the last attempt has crashed."""
        count, run = self.get(f"flow_runs/{flow_run}")["run_count"], {"run_count": 0}

        def is_decided() -> bool:
            run.update(self.get(f"flow_runs/{flow_run}"))
            return run["run_count"] > count or run["state_type"] in ENDED

        while run["run_count"] <= count:
            done = self.terminal(f"prefect flow-run retry {flow_run}")
            said = " ".join(done.stdout.split())
            assert done.returncode == 0 or "cannot be retried" in said, said  # it is already on its way
            self.until(is_decided)

    def ended(self, flow_run: str) -> dict[str, Any]:
        """A flow run, once it has ended."""
        run: dict[str, Any] = {}

        def is_over() -> bool:
            run.update(self.get(f"flow_runs/{flow_run}"))
            return run["state_type"] in ENDED

        self.until(is_over)
        return run

    def tasks(self, flow_run: str) -> list[dict[str, Any]]:
        return self.everything("task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})

    def states(self, flow_run: str) -> dict[str, set[str]]:
        """Stage id -> names of the states of its task runs in the run's last attempt."""
        tasks = self.tasks(flow_run)
        last = max((task["flow_run_run_count"] for task in tasks), default=0)
        states: dict[str, set[str]] = {}
        for task in tasks:
            if task["flow_run_run_count"] == last:
                states.setdefault(task["name"].split()[0].partition("/")[0], set()).add(task["state_name"])
        return states

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + RUN_S
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.3)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What ``nanochat up`` starts, for all tests of this folder; ``nanochat down`` leaves nothing of it."""
    folder = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, web_port = one.getsockname()[1], other.getsockname()[1]
    environment = {
        **os.environ, "PREFECT_HOME": str(folder), "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "NANOCHAT_HOME": str(folder / "home"), "NANOCHAT_TEST_API_KEY": CANARY,
        "NANOCHAT_FAULT_FILE": str(folder / "fault"),
    }  # fmt: skip
    made = Server(port, web_port, environment, folder / "home", folder / "fault")
    try:
        assert made.ui in made.up()
        environment["PREFECT_API_URL"] = f"{made.ui}/api"
        yield made
    finally:
        there = made.processes()
        made.types("nanochat down")
        assert [process for process in there if process.is_running()] == []
        assert "nothing" in made.types("nanochat down")


@pytest.fixture(scope="module")
def store(tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file's own store, which has all of ``tiny``; runs into it leave the server's own store alone."""
    folder = tmp_path_factory.mktemp("store") / "store"
    shutil.copytree(tiny_home / "store", folder, symlinks=True)
    return folder


class Browser:
    """One tab of a headless Chromium, over the DevTools protocol."""

    def __init__(self, program: str, folder: Path) -> None:
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run",
            f"--user-data-dir={folder}", "--window-size=1200,1400", "about:blank",
        ]  # fmt: skip
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([program, *arguments], **quiet)
        port_file = folder / "DevToolsActivePort"
        port = self._until(lambda: port_file.exists() and port_file.read_text().splitlines()[:2], "a port")
        self._socket = connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None)
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self._send(f"{domain}.enable")

    def open(self, address: str) -> None:
        self._send("Page.navigate", url=address)

    @property
    def address(self) -> str:
        return str(self.evaluate("location.href"))

    @property
    def text(self) -> str:
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def sees(self, text: str) -> None:
        """Wait until the page shows ``text``."""
        self._until(lambda: text in self.text, f"{text!r} in {self.text!r}")

    def click(self, selector: str, text: str = "") -> None:
        """Click the first visible element that matches and contains ``text``, once it keeps still."""
        find = (
            "(() => { if (document.readyState !== 'complete') return null;"
            f" const found = [...document.querySelectorAll({json.dumps(selector)})].find(e =>"
            f" e.innerText.includes({json.dumps(text)}) && e.getClientRects().length);"
            " if (!found) return null; found.scrollIntoView({block: 'center'});"
            " const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        seen: list[Any] = [None]

        def keeps_still() -> bool:
            seen.append(self.evaluate(find))
            return seen[-1] is not None and seen[-1] == seen[-2]

        self._until(keeps_still, f"{selector} with {text!r}")
        x, y = seen[-1]
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def evaluate(self, expression: str) -> Any:
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """What the console was told since one last asked: errors, and what a policy has forbidden."""
        self.evaluate("0")  # what has happened by now is in front of the answer
        said = []
        for event in self._events:
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                said.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif event["method"] == "Runtime.exceptionThrown":
                said.append(json.dumps(params["exceptionDetails"])[:800])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                said.append(json.dumps(params["args"])[:800])
        self._events.clear()
        return said

    def looks(self, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and whether its person wants it dark."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def types(self, text: str) -> None:
        """Into whatever has the focus."""
        self._send("Input.insertText", text=text)

    def presses(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        """One key."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9}
        text = {"text": "\r"} if key == "Enter" else {}
        code = codes.get(key) or ord(key.upper())
        for kind in ("keyDown", "keyUp"):
            self._send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                modifiers=2 * ctrl + 8 * shift, **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def holds(self, expression: str) -> Any:
        """Wait until the expression is true; its value."""
        return self._until(lambda: self.evaluate(expression), expression)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)

    def _until(self, condition: Any, wanted: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            if time.monotonic() > deadline:
                page = f"{self.address}: {self.text}" if getattr(self, "_session", None) else ""
                raise AssertionError(f"never came: {wanted[:2000]}\n{page[:2000]}")
            time.sleep(0.2)
        return found

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self._events.append(answer)


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[Browser]:
    """A browser of its own; for tests marked ``needs("chromium")``."""
    made = Browser(chromium, tmp_path / "chromium")
    yield made
    made.close()
