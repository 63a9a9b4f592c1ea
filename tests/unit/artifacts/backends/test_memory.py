"""What only the memory backend does: planned faults, a clock of its own, one place for each name."""

from __future__ import annotations

import pytest

from artifacts.backends import open_backend
from artifacts.backends.memory import ANY, Fault, MemoryBackend
from artifacts.errors import ResourceError


def test_a_fault_comes_at_its_turn_and_only_then() -> None:
    backend = MemoryBackend(faults=[Fault("put", 2)])
    backend.put("a", b"1")
    with pytest.raises(ResourceError, match="planned fault before put a"):
        backend.put("a", b"2")
    assert backend.get("a") == b"1"
    backend.put("a", b"3")
    assert backend.get("a") == b"3"


def test_an_applied_fault_is_a_lost_answer() -> None:
    backend = MemoryBackend(faults=[Fault("put_new", 1, applied=True)])
    with pytest.raises(ResourceError, match="after put_new a"):
        backend.put_new("a", b"1")
    assert backend.get("a") == b"1"


def test_any_counts_every_call() -> None:
    backend = MemoryBackend(faults=[Fault(ANY, 3, error=KeyboardInterrupt)])
    backend.put("a", b"1")
    assert backend.info("a")
    with pytest.raises(KeyboardInterrupt):
        list(backend.list(""))
    assert backend.calls == {"put": 1, "info": 1, "list": 1, ANY: 3}


def test_ages_follow_the_clock() -> None:
    now = [100.0]
    backend = MemoryBackend(clock=lambda: now[0])
    backend.put("a", b"1")
    now[0] += 50
    info = backend.info("a")
    assert info is not None
    assert info.age_s == 50
    assert backend.touch("a")
    assert [item.age_s for item in backend.list("")] == [0]


def test_a_name_means_the_same_objects_in_one_process() -> None:
    open_backend("memory://one").put("a", b"1")
    assert open_backend("memory://one").get("a") == b"1"
    assert open_backend("memory://two").get("a") is None
