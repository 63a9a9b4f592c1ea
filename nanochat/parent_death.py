"""Ask the kernel to end this process when its parent ends, so that no trainer is ever orphaned."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Receive ``signum`` when the parent thread ends. Exits 1 if ``parent`` is no longer our parent.

    Linux only (elsewhere nothing happens). The setting survives exec, not fork.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died between fork and prctl: nobody would tell us
        raise SystemExit(1)
