"""Many clients at once against ``nanochat serve``: refusals, lost slots, memory, files, and time to health.

    python benchmarks/serve_load.py [--clients 50] [--seconds 120] [--soak] [--out FILE]

Prints one JSON document, and ends with 1 if a limit is missed. The server is a process of its own with a
random model of 4 layers over bytes; the clients are a second one and this one asks for health, so nothing
here shares a Python interpreter with the server. Of the clients' requests a third is streamed, a third is
given up in the middle, and a third is answered whole. ``--soak`` takes ten minutes (T81).

p99_ms           of GET /healthz, asked twenty times a second while the clients ask
rss_mb_a_minute  slope of the server's memory over the last three quarters
lost_slots       slots taken, or requests waiting, a second after the last client has gone
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil

SOAK_S = 600
LIMITS = {"p99_ms": 50.0, "rss_mb_a_minute": 1.0, "lost_slots": 0, "errors": 0, "more_files": 2}
MODEL = {"depth": 4, "width": 256, "num_heads": 2, "num_kv_heads": 2, "seq_len": 1024}
SERVE = "from flows.cli import main; main()"


def make_store(folder: Path) -> None:
    """A store with one random model, ``sft/load@v1``."""
    import torch
    from safetensors.torch import save_file

    from artifacts.fingerprint import recipe, sha256_json
    from artifacts.manifest import Draft
    from artifacts.store import Store
    from nanochat.config.model import ModelConfig
    from nanochat.model.gpt import GPT
    from nanochat.tokenizer.tokenizer import Tokenizer

    made = folder / "model"
    made.mkdir()
    tokenizer = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
    config = ModelConfig(vocab_size=tokenizer.vocab_size, **MODEL)
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(1))
    (made / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    save_file(model.state_dict(), made / "model.safetensors")
    tokenizer.save(made)
    identity = recipe("sft", 1, MODEL, inputs={}, modules={})
    draft = Draft(stage="sft", kind="sft", fingerprint=sha256_json(identity), recipe=identity)
    Store.open(str(folder / "store")).commit(draft, made, name="load")


async def ask(client: httpx.AsyncClient, draw: random.Random, seen: Counter[str]) -> None:
    """One request: whole, streamed, or given up."""
    kind = draw.choice(("whole", "stream", "gone"))
    text = "".join(draw.choices("abcdefgh \n", k=draw.randint(1, 200)))
    body = {
        "messages": [{"role": "user", "content": text}], "max_tokens": draw.randint(1, 60),
        "stream": kind != "whole", "logit_bias": {"65": 100},
    }  # fmt: skip
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        count = 0
        async for line in answer.aiter_lines():
            count += bool(line)
            if kind == "gone" and count > 4 and answer.status_code == 200:
                seen["gone"] += 1
                return
        seen[str(answer.status_code)] += 1
    if answer.status_code == 429:
        await asyncio.sleep(min(2.0, float(answer.headers["retry-after"])))


async def load(url: str, clients: int, seconds: float) -> Counter[str]:
    """All clients until the time is over; how often each status was seen."""
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def one(number: int) -> None:
        draw = random.Random(number)
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            while time.monotonic() < end:
                try:
                    await ask(client, draw, seen)
                except httpx.HTTPError as error:
                    seen[type(error).__name__] += 1

    await asyncio.gather(*map(one, range(clients)))
    return seen


def watch(url: str, server: psutil.Process, clients: subprocess.Popen[str]) -> dict[str, Any]:
    """Ask for health and look at the server until the clients are done."""
    times, memory, files = [], [], []
    start = time.monotonic()
    with httpx.Client(base_url=url, timeout=30) as client:
        while clients.poll() is None:
            before = time.monotonic()
            client.get("/healthz").raise_for_status()
            times.append(time.monotonic() - before)
            memory.append((time.monotonic() - start, server.memory_info().rss / 1e6))
            files.append(server.num_fds())
            time.sleep(0.05)
    settled = memory[len(memory) // 4 :]
    slope = statistics.linear_regression(*zip(*settled, strict=True)).slope * 60
    return {
        "health_asked": len(times), "p50_ms": round(statistics.median(times) * 1e3, 2),
        "p99_ms": round(statistics.quantiles(times, n=100)[98] * 1e3, 2),
        "rss_mb": round(memory[-1][1], 1), "rss_mb_a_minute": round(slope, 2), "most_files": max(files),
    }  # fmt: skip


def taken(url: str) -> dict[str, int]:
    """What /metrics says of slots and of tokens."""
    text = httpx.get(f"{url}/metrics").text
    names = ("running", "waiting", "generated_tokens_total")
    found = {name: re.findall(rf"^nanochat_{name}{{.*}} (\S+)$", text, re.MULTILINE) for name in names}
    return {name: int(sum(map(float, values))) for name, values in found.items()}


def measure(clients: int, seconds: float) -> dict[str, Any]:
    """The numbers of one run."""
    with tempfile.TemporaryDirectory() as name:
        make_store(Path(name))
        environment = {
            **os.environ, "NANOCHAT_HOME": f"{name}/home", "NANOCHAT_SERVE_REQUESTS_PER_MINUTE": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip
        command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--store", f"{name}/store"]
        with (Path(name) / "log").open("w") as log:
            server = subprocess.Popen(
                [*command, "sft/load"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            assert server.stdout
            url = server.stdout.readline().split()[0]
            asyncio.run(load(url, 2, 1.0))  # the model is loaded
            files = psutil.Process(server.pid).num_fds()
            asked = ["--ask", url, "--clients", str(clients), "--seconds", str(seconds)]
            asking = subprocess.Popen([sys.executable, __file__, *asked], stdout=subprocess.PIPE, text=True)
            seen = watch(url, psutil.Process(server.pid), asking)
            assert asking.stdout
            answers = json.loads(asking.stdout.read())
            time.sleep(1)
            after = taken(url)
            left = psutil.Process(server.pid).num_fds()
        finally:
            server.terminate()
            code = server.wait(60)
    errors = sum(count for status, count in answers.items() if status not in ("200", "429", "gone"))
    return {
        **seen, "answers": answers, "errors": errors, "lost_slots": after["running"] + after["waiting"],
        "more_files": max(0, left - files), "exit_code": code,
        "tokens_per_second": round(after["generated_tokens_total"] / seconds),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--soak", action="store_true", help=f"{SOAK_S} seconds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ask", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ask:
        print(json.dumps(asyncio.run(load(asked.ask, asked.clients, asked.seconds))))
        return 0
    seconds = SOAK_S if asked.soak else asked.seconds
    found = measure(asked.clients, seconds)
    missed = [name for name, most in LIMITS.items() if found[name] > most]
    about = {"clients": asked.clients, "seconds": seconds, "cpus": os.cpu_count()}
    text = json.dumps({"about": about, **found, "limits": LIMITS, "missed": missed}, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
