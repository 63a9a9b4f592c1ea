"""``python -m deployments.worker POOL``: a Prefect worker for a container, which ends its runs before itself.

Prefect's own leaves its runs alone when it is told to stop, and a container kills them with it. This one
tells them first, and waits until their stages have saved a checkpoint.
"""

from __future__ import annotations

import signal
import socket
import sys
import time

from flows.processes.server_process import PYTHON, ServerProcess
from flows.services.supervisor import end_descendants

_RUNS_STOP_S = 90  # with the rest, less than the 120 s that a container gets
_STOP_S = 20
_LOOK_AGAIN_S = 0.5


def main(argv: list[str]) -> int:
    """Run the worker until SIGTERM; its exit code if it ends by itself."""
    (pool,) = argv
    name = f"{pool}-{socket.gethostname()}"
    command = ["worker", "start", "--pool", pool, "--name", name, "--type", "process", "--with-healthcheck"]
    told: list[int] = []  # the signals; a threading.Event, set by a handler, could wait for itself
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    worker = ServerProcess(
        [*PYTHON, "-m", "prefect", *command], "127.0.0.1", 8080, "/health", {"NANOCHAT_TAKES_SIGINT": "1"},
        start_new_session=True,  # a Ctrl-C is for this process alone
    )  # fmt: skip
    while not told:
        if (code := worker.poll()) is not None:
            return code
        time.sleep(_LOOK_AGAIN_S)
    end_descendants(worker.pid, _RUNS_STOP_S)
    worker.stop(_STOP_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
