"""What running the stages as a Prefect pipeline costs, and what it bears.

    python benchmarks/orchestration.py [--only PART ...] [--into benchmarks/results/orchestration.json]

Prints one JSON document; ``--into`` also keeps it in a file, beside what that says of other parts. Times
are medians of rounds in which all that is compared has its turn. ``limit`` is what is to be reached.

overhead    ``tiny`` through the pipeline beside the same programs by hand, as many at once
share       CPU of the flow's process as a share of stage seconds, of a long run of base
cached      ``nanochat run tiny`` when everything is built
mapped      the shards of ``tokenize``, one task each, without their work
logs        a stage that prints 1,000 lines a second and crashes
sqlite      many runs at once, with stages that sleep
postgresql  more of them
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from by_hand import ByHand
from prefect_services import BIN, Services, environment, finish, nanochat

from deployments.postgresql import PostgreSQL
from flows.dag import STAGE_IDS

HERE = Path(__file__).parent
WATCH_S = 0.5


class Bench:
    """Services to compare with a process of its own, ``alone``, in whose home ``tiny`` is built."""

    def __init__(self, folder: Path, services: Services, arguments: argparse.Namespace) -> None:
        self.folder, self.services, self.arguments = folder, services, arguments
        self.alone = environment(folder / "alone")
        self.served = self.alone | {"PREFECT_API_URL": services.api}
        self._numbers = count()
        nanochat(["run", "tiny"], self.alone)
        os.environ["NANOCHAT_HOME"] = self.alone["NANOCHAT_HOME"]

    def fresh(self) -> Path:
        """A folder that is not there yet."""
        return self.folder / f"fresh{next(self._numbers)}"

    def medians(self, turns: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Seconds of each, in rounds that every other time go backwards."""
        times: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(self.arguments.rounds):
            for name in list(turns) if number % 2 == 0 else reversed(turns):
                start = time.perf_counter()
                turns[name]()
                times[name].append(time.perf_counter() - start)
        return {name: round(statistics.median(taken), 2) for name, taken in times.items()}


def overhead(bench: Bench) -> Any:
    """Every run begins with an empty store. The limits are on what it takes longer than by hand."""
    hand = ByHand("tiny")

    def run(environment: dict[str, str]) -> None:
        home = bench.fresh()
        said = nanochat(["run", "tiny", "--json"], environment | {"NANOCHAT_HOME": str(home)})
        assert _statuses(said) == ["ran"] * len(STAGE_IDS), said
        shutil.rmtree(home)

    seconds = bench.medians({
        "by_hand": lambda: hand.run(bench.fresh(), hand.at_once),
        "by_hand_in_turn": lambda: hand.run(bench.fresh(), 1),
        "embedded": lambda: run(bench.alone),
        "server": lambda: run(bench.served),
        "worker": lambda: bench.services.run("pipeline/pipeline", preset="tiny", store=str(bench.fresh())),
    })  # fmt: skip
    over = {name: seconds[name] - seconds["by_hand"] for name in ("embedded", "server", "worker")}
    return {
        "seconds": seconds, "at_once": hand.at_once,
        "embedded": _judged(over["embedded"], 30, "s"), "server": _judged(over["server"], 15, "s"),
        "worker_over_s": round(over["worker"], 2),
    }  # fmt: skip


def share(bench: Bench) -> Any:
    """``while_training`` is between the first and the last look at the process of base."""
    return {"embedded": _flow_cpu(bench, bench.alone, "a"), "server": _flow_cpu(bench, bench.served, "b")}


def _flow_cpu(bench: Bench, environment: dict[str, str], name: str) -> Any:
    steps = bench.arguments.train_steps
    values = {"base.steps": steps, "base.eval_every": steps, "base.seed": sum(name.encode())}
    sizes = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    command = [str(BIN / "nanochat"), "run", "tiny", "--name", name, "--until", "base", "--json", *sizes]
    looks: list[tuple[float, float, str]] = []  # when, CPU seconds so far, what its children are called
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        flow = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):  # something has ended just now
                called = " ".join(" ".join(child.cmdline()) for child in flow.children(recursive=True))
                looks.append((time.monotonic(), sum(flow.cpu_times()[:2]), called))
            time.sleep(WATCH_S)
        stage_s = sum(json.loads(line)["seconds"] for line in process.stdout or ())
    assert process.returncode == 0, command
    training = [look for look in looks if "nanochat.stages.base" in look[2]]
    wall, cpu = (training[-1][n] - training[0][n] for n in (0, 1))
    return {
        "training_s": round(wall, 1), "stage_s": round(stage_s, 1),
        "while_training": _judged(100 * cpu / wall, 2, "percent"),
        "in_total_percent": round(100 * looks[-1][1] / stage_s, 2),
        "start_cpu_s": round(next(cpu for _, cpu, called in looks if "nanochat.stages" in called), 2),
    }  # fmt: skip


def cached(bench: Bench) -> Any:
    """``worker``: from the moment it is asked for to the moment it is over, in a process of its own."""

    def run(environment: dict[str, str]) -> None:
        said = nanochat(["run", "tiny", "--json"], environment)
        assert _statuses(said) == ["cached"] * len(STAGE_IDS), said

    store = str(Path(bench.alone["NANOCHAT_HOME"], "store"))
    seconds = bench.medians({
        "no_server": lambda: run(bench.alone),
        "server": lambda: run(bench.served),
        "worker": lambda: bench.services.run("pipeline/pipeline", preset="tiny", store=store),
    })  # fmt: skip
    limited = {name: _judged(seconds[name], 5, "s") for name in ("no_server", "server")}
    return {**limited, "worker_s": seconds["worker"]}


def mapped(bench: Bench) -> Any:
    """From the call of the stage before to that of the stage after, over the number of tasks."""
    shards = bench.arguments.shards
    return {"tasks": shards} | {
        name: _mapped(bench, environment | {"STUB_SHARDS": str(shards)})
        for name, environment in (("embedded", bench.alone), ("server", bench.served))
    }


def _mapped(bench: Bench, environment: dict[str, str]) -> Any:
    home = {"NANOCHAT_HOME": str(bench.fresh())}
    told = json.loads(finish([sys.executable, str(HERE / "stub_pipeline.py"), "mapped"], environment | home))
    each = {name: 1000 * told[name] / told["tasks"] for name in ("wall_s", "flow_cpu_s")}
    return _judged(each["wall_s"], 100, "ms") | {"flow_cpu_ms": round(each["flow_cpu_s"], 1)}


def logs(bench: Bench) -> Any:
    """Lines that are kept count those of the last words that are in the stage's log and on the server."""
    sizes = [str(bench.arguments.lines_per_second), str(bench.arguments.log_seconds)]
    quiet = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
    told = json.loads(finish([sys.executable, str(HERE / "child_logs.py"), *sizes], bench.served | quiet))
    return told | {"in_write": _judged(100 * told.pop("in_write_share"), 1, "percent")}


def sqlite(folder: Path, arguments: argparse.Namespace) -> Any:
    return _many(folder, arguments, arguments.sqlite_runs)


def postgresql(folder: Path, arguments: argparse.Namespace) -> Any:
    with PostgreSQL(_postgresql_programs()) as database:
        url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url_with_password}
        return _many(folder, arguments, arguments.postgresql_runs, **url)


def _many(folder: Path, arguments: argparse.Namespace, runs: int, **settings: str) -> Any:
    """``asked_again``: requests that a lock on the database made the server answer with "try again"."""
    with Services(folder, **settings) as services:
        command = [sys.executable, str(HERE / "many_runs.py"), str(runs), "--limit", str(arguments.limit)]
        told = json.loads(finish(command, services.environment))
        log = services.server_log
    told["asked_again"] = log.count("Encountered retryable exception in request")
    told["other_errors"] = log.count("| ERROR   |") - told["asked_again"]
    return told | {"ok": told["states"] == {"Completed": runs} and not told["lost"]}


def _postgresql_programs() -> Path:
    """The folder of its programs, which Debian keeps off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    assert found, "apt-get install postgresql"
    return found[-1].parent


def _statuses(lines: str) -> list[str]:
    return [json.loads(line)["status"] for line in lines.splitlines()]


def _judged(value: float, limit: float, unit: str) -> dict[str, Any]:
    return {unit: round(value, 2), "limit": limit, "ok": value <= limit}


BESIDE_SERVICES = {part.__name__: part for part in (overhead, share, cached, mapped, logs)}
MANY = {part.__name__: part for part in (sqlite, postgresql)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if beside := [part for part in arguments.only if part in BESIDE_SERVICES]:
            with Services(folder / "up") as services:
                bench = Bench(folder, services, arguments)
                result |= {part: BESIDE_SERVICES[part](bench) for part in beside}
        many = [part for part in arguments.only if part in MANY]
        return result | {part: MANY[part](folder / part, arguments) for part in many}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = [*BESIDE_SERVICES, *MANY]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train-steps", type=int, default=6000, help="of base, for the share of the CPU")
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--lines-per-second", type=int, default=1000)
    parser.add_argument("--log-seconds", type=int, default=60)
    parser.add_argument("--sqlite-runs", type=int, default=20)
    parser.add_argument("--postgresql-runs", type=int, default=100)
    parser.add_argument("--limit", type=int, default=4, help="runs that a worker has at once")
    parser.add_argument("--into", type=Path, help="a file of results to bring up to date")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    result = measure(arguments)
    if arguments.into:
        known = json.loads(arguments.into.read_text()) if arguments.into.exists() else {}
        arguments.into.write_text(json.dumps(known | result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main())
