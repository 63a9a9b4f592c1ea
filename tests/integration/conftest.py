"""A real browser, driven as a person drives it: look for something, click it, look again."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

PATIENCE_S = 60


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
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

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
        """Click the first visible element that matches and contains ``text``, once there is one."""
        find = (
            f"(() => {{ const found = [...document.querySelectorAll({json.dumps(selector)})].find(e =>"
            f" e.innerText.includes({json.dumps(text)}) && e.getClientRects().length);"
            " if (!found) return null; found.scrollIntoView({block: 'center'});"
            " const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        x, y = self._until(lambda: self.evaluate(find), f"{selector} with {text!r}")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def evaluate(self, expression: str) -> Any:
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)

    def _until(self, condition: Any, wanted: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"never came: {wanted[:2000]}"
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


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[Browser]:
    """A browser of its own; for tests marked ``needs("chromium")``."""
    made = Browser(chromium, tmp_path / "chromium")
    yield made
    made.close()
