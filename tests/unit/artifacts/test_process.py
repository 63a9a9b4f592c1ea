from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from artifacts.process import Process


def test_a_running_process_is_not_dead() -> None:
    assert not Process.current().is_dead()


def test_a_number_used_again_is_another_process() -> None:
    assert replace(Process.current(), start="1").is_dead()


def test_of_another_host_nothing_is_known() -> None:
    assert not Process("elsewhere", 2**22 + 1, "1").is_dead()


def test_the_dead_and_the_zombie_are_dead() -> None:
    program = "from artifacts.process import Process as P; p = P.current()\n"
    program += "print(p.host, p.pid, p.start, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    host, pid, start = child.stdout.readline().split()
    process = Process(host, int(pid), start)
    assert not process.is_dead()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert process.is_dead()
    child.wait()
    assert process.is_dead()
    child.stdin.close()
    child.stdout.close()
