"""Child processes that may be killed, or may change their own limits, without harm to the test process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest


def _fork(body: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 255
        signal.alarm(60)  # a child never outlives its test
        try:
            code = body()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    return pid


@pytest.fixture
def fork() -> Callable[[Callable[[], int]], int]:
    """``fork(body)``: process id of a child that exits with what ``body`` returns, 255 if it raises.

    A forked child has no thread pool: it may move tensors and do file work, but no parallel torch operation.
    """
    return _fork


@pytest.fixture
def exit_code() -> Callable[[int], int]:
    """``exit_code(pid)``: wait for a child; its exit code, or minus the signal that killed it."""
    return lambda pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
