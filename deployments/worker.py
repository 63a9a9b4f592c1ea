"""``python -m deployments.worker POOL``: a Prefect worker for a container, which ends its runs before itself.

Prefect's own leaves its runs alone when it is told to stop, and a container kills them with it. This one
tells them first, and waits until their stages have saved a checkpoint.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading

from flows.processes.server_process import PYTHON, ServerProcess
from flows.services.supervisor import end_descendants

_RUNS_STOP_S = 90  # with the rest, less than the 120 s that a container gets
_STOP_S = 20


def main(argv: list[str]) -> int:
    """Run the worker until SIGTERM; its exit code if it ends by itself."""
    (pool,) = argv
    name = f"{pool}-{socket.gethostname()}"
    command = ["worker", "start", "--pool", pool, "--name", name, "--type", "process", "--with-healthcheck"]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    worker = ServerProcess(
        [*PYTHON, "-m", "prefect", *command], "127.0.0.1", 8080, "/health", {"NANOCHAT_TAKES_SIGINT": "1"},
        start_new_session=True,  # a Ctrl-C is for this process alone
    )  # fmt: skip
    while not stopping.wait(0.5):
        if (code := worker.poll()) is not None:
            return code
    end_descendants(worker.pid, _RUNS_STOP_S)
    worker.stop(_STOP_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
