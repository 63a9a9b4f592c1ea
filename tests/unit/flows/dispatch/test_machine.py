"""GPUs by number, each given to one stage."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flows.dispatch.machine import devices, gpus, offer, slots
from flows.launch import STOP, Interrupted


@pytest.fixture
def four(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")


def test_where_there_is_no_gpu_each_cpu_stands_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    assert slots() == offer().gpus == len(os.sched_getaffinity(0))


def test_two_stages_get_different_gpus(four: None) -> None:
    with devices(1):
        first = os.environ["CUDA_VISIBLE_DEVICES"]
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"  # as another process of this machine sees it
        with devices(3):
            others = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    assert {first, *others} == {"0", "1", "2", "3"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_one_that_finds_too_few_waits_and_holds_none_meanwhile(four: None) -> None:
    got = threading.Event()

    def wants_three() -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
        with devices(3):
            got.set()

    with devices(2):
        waiter = threading.Thread(target=wants_three)
        waiter.start()
        assert not got.wait(0.7)
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
        with devices(2):  # the two that the waiter found free
            pass
    assert got.wait(5)
    waiter.join()


def test_a_run_that_is_stopped_waits_no_longer(four: None) -> None:
    with devices(4):
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
        STOP.pull()
        with pytest.raises(Interrupted), devices(1):
            pass


def test_a_machine_with_fewer_gives_all_it_has(four: None) -> None:
    with devices(8):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
