"""One builder at a time: a lease whose heartbeat is a counter, so no clock is compared.

A waiter takes over at once from a dead process of the same machine, and from any holder whose
counter stood still for three heartbeats of the waiter's own clock. Each holder gets a higher
fencing number; one that lost the lease finds out at ``check`` and may not commit.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.errors import DataError, NanochatError, ResourceError
from artifacts.process import Process

if TYPE_CHECKING:
    from artifacts.store import Store

MISSED_HEARTBEATS = 3
GC = "gc"  # held while gc takes something away, and while somebody makes sure that it does not
_log = logging.getLogger(__name__)


class LeaseLost(NanochatError):
    """Another process took the lease over while this one was paused or cut off."""

    code = "lease_lost"


@dataclass(frozen=True)
class Holder:
    """The stored state of a lease. ``token`` is empty when nobody holds it."""

    fence: int
    beat: int
    token: str
    process: Process
    interval_s: float

    def encode(self) -> bytes:
        """The bytes to store."""
        return layout.encode({"schema": 1, **asdict(self)})

    @classmethod
    def decode(cls, key: str, data: bytes) -> Holder:
        """Parse the stored bytes; DataError if they are damaged."""
        record = layout.decode(key, data)
        try:
            process: dict[str, Any] = record["process"]
            return cls(
                int(record["fence"]), int(record["beat"]), str(record["token"]),
                Process(str(process["host"]), int(process["pid"]), str(process["start"])),
                float(record["interval_s"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{key} is damaged", "remove that file if nothing is running") from error


class Lease:
    """``with Lease(store, "base/FINGERPRINT") as lease:`` holds it, waiting as long as another does."""

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        interval_s: float = 10.0,
        on_wait: Callable[[Holder], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        process: Process | None = None,
    ) -> None:
        self._backend = store.backend
        self._key = layout.lease(key)
        self._interval_s = interval_s
        self._on_wait = on_wait
        self._clock = clock
        self._process = process or Process.current()
        self._mine: Holder | None = None
        self._bytes = b""
        self._seen: tuple[tuple[str, int], float] | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def fence(self) -> int:
        """The fencing number: higher than that of every earlier holder. Raises LeaseLost if not held."""
        if self._mine is None:
            raise LeaseLost(f"lease {self._key} is not held", "run the command again")
        return self._mine.fence

    def acquire(self, block: bool = True, on_wait: Callable[[Holder], None] | None = None) -> bool:
        """Take the lease and start its heartbeat; False if ``block`` is off and another holds it.

        ``on_wait`` is called with the holder once for every holder that is waited for.
        """
        announce, announced, pause_s = on_wait or self._on_wait, -1, 0.01
        while not self.try_acquire():
            if not block:
                return False
            holder = self.holder()
            if announce is not None and holder is not None and holder.token and holder.fence != announced:
                announce(holder)
                announced = holder.fence
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, 1.0, self._interval_s / 2)
        self._stop.clear()
        self._thread = threading.Thread(target=self._heartbeat, name=f"lease {self._key}", daemon=True)
        self._thread.start()
        return True

    def try_acquire(self) -> bool:
        """One attempt, without waiting or heartbeat; whoever waits repeats it with the same object."""
        data = self._backend.get(self._key)
        holder = None if data is None else Holder.decode(self._key, data)
        if holder is not None and holder.token and not self._is_abandoned(holder):
            return False
        fence = 1 if holder is None else holder.fence + 1
        mine = Holder(fence, 0, secrets.token_hex(8), self._process, self._interval_s)
        if not self._backend.compare_and_swap(self._key, data, mine.encode()):
            return False
        self._mine, self._bytes = mine, mine.encode()
        return True

    def holder(self) -> Holder | None:
        """Who holds it now, or held it last."""
        data = self._backend.get(self._key)
        return None if data is None else Holder.decode(self._key, data)

    def beat(self) -> None:
        """Advance the counter once. Raises LeaseLost if another took over."""
        with self._lock:
            if self._mine is None:
                raise LeaseLost(f"lease {self._key} is not held", "run the command again")
            following = replace(self._mine, beat=self._mine.beat + 1)
            if not self._backend.compare_and_swap(self._key, self._bytes, following.encode()):
                self._mine = None
                raise LeaseLost(
                    f"lease {self._key} was taken over", "another run builds this now: run it again"
                )
            self._mine, self._bytes = following, following.encode()

    def check(self) -> None:
        """Raise LeaseLost unless the lease is still held: asks the store, not this process's memory."""
        self.beat()

    def release(self) -> None:
        """Give the lease back; nothing happens if it is not held. The fencing number is kept."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        with self._lock:
            if self._mine is not None:
                free = replace(self._mine, token="")
                self._backend.compare_and_swap(self._key, self._bytes, free.encode())
                self._mine = None

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _is_abandoned(self, holder: Holder) -> bool:
        if holder.process.is_dead():
            return True
        state, now = (holder.token, holder.beat), self._clock()
        if self._seen is None or self._seen[0] != state:
            self._seen = (state, now)
        return now - self._seen[1] > MISSED_HEARTBEATS * holder.interval_s

    def _heartbeat(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.beat()
            except LeaseLost as error:
                _log.error("%s", error)
                return
            except ResourceError as error:
                _log.warning("heartbeat of %s: %s", self._key, error)
