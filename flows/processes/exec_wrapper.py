"""``python -m flows.processes.exec_wrapper SIGNAL PROGRAM ARGUMENT…``: a program that dies with its parent.

The kernel sends SIGNAL to the program when the thread that started it ends, even by SIGKILL. SIGINT is
blocked: a Ctrl-C reaches every process of a terminal, and only the flow shall decide what it means. Not so
with ``NANOCHAT_TAKES_SIGINT``: Prefect's worker sends one to itself when it is told to end.
"""

from __future__ import annotations

import os
import signal
import sys

from nanochat.parent_death import die_with_parent


def main(argv: list[str]) -> None:
    """Replace this process by ``argv[1:]``; exit 1 if the parent is gone already."""
    if not os.environ.pop("NANOCHAT_TAKES_SIGINT", ""):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    die_with_parent(signal.Signals[argv[0]], parent=int(os.environ.pop("NANOCHAT_PARENT_PID")))
    os.execvp(argv[1], argv[1:])  # noqa: S606 -- a list, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
