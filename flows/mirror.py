"""Checkpoints of a running stage, copied to a store that is not on this disk, and fetched by another machine.

The stage's program knows no store: a thread beside it notices what it publishes in its attempt folder. One
upload is under way at a time, and one that fails costs the training nothing: it is said once, and the next
checkpoint is tried. Where the store is a folder, attempts lie in it, and nothing is copied.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from artifacts.atomic import disk_errors, link_file, make_directories, publish_directory
from artifacts.attempts import fetch_snapshot, newest_snapshot, put_snapshot
from artifacts.lease import Lease, LeaseLost
from artifacts.redact import redact_text
from artifacts.store import Store
from flows.launch import STOP
from nanochat.train.published import newest_step

CHECKPOINTS = "checkpoints"
_BESIDE = ("records.jsonl", "log.txt")  # a resumed stage drops the records after its checkpoint
_LOOK_S = 1.0
_SWITCH_S = 0.3
logger = logging.getLogger(__name__)


@contextmanager
def mirrored(
    store: Store, lease: Lease, fingerprint: str, attempt: Path, warn: Callable[[str], None]
) -> Iterator[None]:
    """Before: the store's newest checkpoint is in ``attempt``, if it is newer than what is there.

    Within: each new checkpoint in ``attempt`` goes to the store; if anything is raised, the last one, too.
    Raises what ``fetch_snapshot`` does, before the block is entered.
    """
    if store.is_here:
        yield
        return
    fetch_newest(store, fingerprint, attempt)
    mirror = Mirror(store, lease, fingerprint, attempt, warn)
    mirror.start()
    try:
        yield
    except BaseException:
        mirror.end(send_last=True)
        raise
    mirror.end(send_last=False)


def fetch_newest(store: Store, fingerprint: str, attempt: Path) -> None:
    """Put the store's newest checkpoint into ``attempt``, if it is newer than what is there."""
    here = newest_step(attempt / CHECKPOINTS)
    with _folder(attempt) as folder, disk_errors(attempt):
        step = fetch_snapshot(store, fingerprint, folder, after=here)
        if step is None:
            return
        for name in _BESIDE:
            if (folder / name).exists():
                os.replace(folder / name, attempt / name)
        checkpoint = _name(step)
        make_directories(attempt / CHECKPOINTS)
        shutil.rmtree(attempt / checkpoint, ignore_errors=True)  # one that is not whole
        publish_directory(folder / checkpoint, attempt / checkpoint)


class Mirror:
    """The thread that sends the checkpoints of one attempt."""

    def __init__(
        self, store: Store, lease: Lease, fingerprint: str, attempt: Path, warn: Callable[[str], None]
    ) -> None:
        self._store, self._lease, self._fingerprint, self._attempt = store, lease, fingerprint, attempt
        self._warn, self._warned = warn, False
        self._sent = self._tried = newest_snapshot(store, fingerprint)
        self._ends, self._send_last = threading.Event(), False
        # A daemon: whoever asked twice to end does not wait for an upload.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._watch,), name="mirror", daemon=True
        )

    def start(self) -> None:
        """Begin to look for checkpoints."""
        self._thread.start()

    def end(self, *, send_last: bool) -> None:
        """Wait for the upload under way, and with ``send_last`` for that of the newest checkpoint."""
        self._send_last = send_last
        self._ends.set()
        while self._thread.is_alive() and STOP.pulls < 2:
            self._thread.join(_SWITCH_S)

    def _watch(self) -> None:
        while not self._ends.wait(_LOOK_S):
            self._send(after=self._tried)
        if self._send_last:
            self._send(after=self._sent)

    def _send(self, after: int) -> None:
        """Store the newest checkpoint if its step is above ``after``."""
        step = newest_step(self._attempt / CHECKPOINTS)
        if step <= after:
            return
        try:
            with _folder(self._attempt) as folder:
                self._hold(step, folder)
                self._tried = step
                put_snapshot(self._store, self._lease, self._fingerprint, step, folder)
            self._sent = step
        except (FileNotFoundError, LeaseLost):
            pass  # a newer one has replaced it meanwhile; or the run ends, and says why
        except Exception as error:
            if not self._warned:
                logger.warning("checkpoint %d is not in the store: %s", step, error)
                self._warn(f"WARNING: checkpoint {step} is not in the store: {error}")
                self._warned = True

    def _hold(self, step: int, folder: Path) -> None:
        """Link to the files of a checkpoint, which the stage may remove meanwhile; copy what grows."""
        for source in (self._attempt / _name(step)).iterdir():
            target = folder / _name(step) / source.name
            if not link_file(source, target, hashed=source.stat(), mode=0o644):
                shutil.copyfile(source, target)
        for name in _BESIDE:
            if (self._attempt / name).exists():
                text = (self._attempt / name).read_text(encoding="utf-8", errors="replace")
                (folder / name).write_text(redact_text(text), encoding="utf-8")


def _name(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}"


@contextmanager
def _folder(attempt: Path) -> Iterator[Path]:
    """A folder beside the checkpoints that is empty at first, and gone afterwards."""
    folder = attempt / "mirror"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
