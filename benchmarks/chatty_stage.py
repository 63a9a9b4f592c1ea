"""A stage's program that prints so many lines a second, times each write, and dies with its last words said.

``--job``: a file with ``lines_per_second`` and ``seconds``. What it measured is left in ``told.json``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

LAST_WORDS = [f"last words {number} of 20" for number in range(1, 21)]


def main(job: Path) -> None:
    wanted = json.loads(job.read_text())
    count = wanted["lines_per_second"] * wanted["seconds"]
    blocked = longest = 0.0
    start = time.perf_counter()
    for number in range(count):
        line = f"step {number:06d} loss 1.234567 lr 0.000300 grad 0.812 tokens/s 12345 {'.' * 40}\n"
        time.sleep(max(0.0, start + number / wanted["lines_per_second"] - time.perf_counter()))
        before = time.perf_counter()
        sys.stdout.write(line)
        sys.stdout.flush()
        taken = time.perf_counter() - before
        blocked, longest = blocked + taken, max(longest, taken)
    seconds = time.perf_counter() - start
    told = {"lines": count, "seconds": seconds, "in_write_s": blocked, "longest_s": longest}
    (job.parent / "told.json").write_text(json.dumps(told))
    print("\n".join(LAST_WORDS), flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    main(Path(sys.argv[sys.argv.index("--job") + 1]))
