"""``nanochat serve`` as a user starts it: where it listens, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from artifacts.manifest import Draft
from artifacts.store import Store

PROGRAM = [sys.executable, "-c", "from flows.cli import main; main()", "serve"]
REF = "sft/small@v1"


@pytest.fixture(scope="module")
def store(model_folder: Path, draft: Callable[..., Draft], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the random model."""
    folder = tmp_path_factory.mktemp("serve")
    shutil.copytree(model_folder, folder / "model")
    Store.open(str(folder / "store")).commit(draft("sft"), folder / "model", name="small")
    return folder / "store"


@pytest.fixture
def process(store: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, running; ended if the test did not."""
    environment = {**os.environ, "NANOCHAT_HOME": str(tmp_path), "NANOCHAT_SERVE_REQUEST_S": "300"}
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [*PROGRAM, "sft/small", "--port", "0", "--store", str(store)],
            env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    yield running
    running.kill()
    running.wait()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    line = process.stdout.readline()
    found = re.match(r"(http://127\.0\.0\.1:\d+)  sft/small@v1$", line)
    assert found, line
    return found[1]


CHAT = "/v1/chat/completions"
TOKENS = 400
LONG = {
    "messages": [{"role": "user", "content": "Hi"}], "max_tokens": TOKENS, "temperature": 0,
    "logit_bias": {"65": 100},
}  # fmt: skip


@pytest.mark.criterion("T70")
def test_health_is_answered_while_the_model_works(process: subprocess.Popen[str]) -> None:
    """How fast, ``benchmarks/serve_load.py`` measures; here, that no request of the model holds it up."""
    url = address(process)
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(2) as pool:
        client.post(CHAT, json={**LONG, "max_tokens": 1})  # the model is loaded
        work = [pool.submit(httpx.post, url + CHAT, json=LONG, timeout=60) for _ in range(2)]
        answered = 0
        while not all(one.done() for one in work):
            assert client.get("/healthz").status_code == 200
            answered += 1
            time.sleep(0.005)
        assert {one.result().json()["usage"]["completion_tokens"] for one in work} == {TOKENS}
    assert answered > 20


@pytest.mark.criterion("T80")
def test_sigterm_lets_answers_end_and_takes_no_new_ones(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    url = address(process)
    assert httpx.get(f"{url}/readyz").status_code == 200
    body = {**LONG, "stream": True}
    ended: list[str] = []
    begun = threading.Barrier(4)

    def one() -> None:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            for _ in range(8):
                next(lines)
            begun.wait(30)
            ended.append([line for line in lines if line][-1])

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    while (answer := httpx.get(f"{url}/readyz")).status_code == 200:
        assert time.monotonic() - start < 10
    assert answer.status_code == 503
    refused = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_ending")
    for thread in threads:
        thread.join(40)
    assert ended == ["data: [DONE]"] * 3
    assert process.wait(30) == 0
    for line in (tmp_path / "log").read_text().splitlines():
        assert json.loads(line)["at"], line


def test_it_serves_pages_and_models_and_logs_lines(process: subprocess.Popen[str], tmp_path: Path) -> None:
    url = address(process)
    assert httpx.get(url).status_code == 200
    (model,) = httpx.get(f"{url}/v1/models").json()["data"]
    assert (model["id"], model["nanochat"]["chat"]) == (REF, True)
    text = httpx.post(f"{url}/tokenize", json={"text": "ab"}).json()
    assert text["count"] == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["/", "/v1/models", "/tokenize"]


@pytest.mark.parametrize(("arguments", "said", "code"), [
    (["--host", "0.0.0.0"], "NANOCHAT_API_KEYS", 2), (["tokenizer/small"], "tokenizer/small", 4),
    (["sft/none"], "sft/none", 4),
])  # fmt: skip
def test_what_it_refuses_in_one_line(
    store: Path, tmp_path: Path, arguments: list[str], said: str, code: int
) -> None:
    done = subprocess.run(
        [*PROGRAM, *arguments, "--port", "0", "--store", str(store)],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "NANOCHAT_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert said in line
