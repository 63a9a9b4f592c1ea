"""Which cluster mapped work goes to: ``NANOCHAT_FAN_OUT``, and what is refused before anything is spent.

Nothing here imports Prefect, Dask or Ray before the cluster is used.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any
from urllib.parse import urlsplit

from artifacts import layout
from artifacts.errors import ResourceError, UsageError
from artifacts.store import Store
from flows.settings import prefect_server_is_configured

_KINDS = {"dask": "dask", "tcp": "dask", "ray": "ray"}  # the scheme of an address -> what is there
_SCHEMES = {"dask": "tcp", "ray": "ray"}  # what Dask and Ray themselves call it
_STARTED_BY = {"dask": "dask scheduler", "ray": "ray start --head"}
_OWN_WORKERS = 2  # as many as the flow has threads: a shard takes every core
_ANSWER_S = 10


@dataclass(frozen=True)
class FanOut:
    """A cluster for mapped work. ``address`` empty: one of its own, on this machine, for one run."""

    kind: str
    address: str = ""

    @classmethod
    def parse(cls, text: str) -> FanOut | None:
        """The cluster that the setting names; None if it is empty: threads of the flow. UsageError."""
        if not text or text in _STARTED_BY:
            return cls(text) if text else None
        try:
            parts = urlsplit(text)
            kind, host, port = _KINDS[parts.scheme], parts.hostname, parts.port
            whole = text == f"{parts.scheme}://{parts.netloc}" and "@" not in text
        except (KeyError, ValueError):
            whole, host, port = False, None, None
        if not (whole and host and port):
            raise UsageError(
                f"NANOCHAT_FAN_OUT = {text!r} names no cluster",
                "write dask, ray, tcp://HOST:8786 or ray://HOST:10001, or unset it",
            )
        return cls(kind, f"{_SCHEMES[kind]}://{parts.netloc}")

    @property
    def away(self) -> bool:
        """True if its workers may be on other machines."""
        return bool(self.address) and not _is_loopback(urlsplit(self.address).hostname or "")

    def check(self, store: Store) -> None:
        """Refuse what cannot work.

        ResourceError: a package is missing, or nothing answers. UsageError: store or Prefect's server are
        not where its workers can use them.
        """
        if importlib.util.find_spec(f"prefect_{self.kind}") is None:
            hint = f"pip install 'nanochat-pipeline[{self.kind}]'"
            raise ResourceError(f"NANOCHAT_FAN_OUT needs the package prefect-{self.kind}", hint)
        if self.away and store.backend.local_path(layout.STORE):
            raise UsageError(
                f"workers of {self.address} run on other machines, which cannot reach {store.backend.url}",
                "keep the store in a bucket: --store s3://BUCKET/PREFIX",
            )
        if self.address and not prefect_server_is_configured():
            raise UsageError(  # what Prefect starts in a worker stays with the server of its first task
                f"the workers of {self.address} outlive the Prefect server that this run would start",
                "start one that they reach too, and name it in PREFECT_API_URL",
            )
        if self.address:
            self._knock()

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Prefect's task runner for it, connected. ResourceError if that is not possible."""
        with ExitStack() as stack:
            try:
                with _sigint_blocked():  # in its workers too: only the flow decides what Ctrl-C means
                    runner = stack.enter_context(self._task_runner())
                    if self.kind == "dask":
                        _ = runner.client  # else at the first task
            except Exception as error:  # Ray's are of no narrower kind
                where = f"at {self.address}" if self.address else "on this machine"
                said = str(error).partition("\n")[0]
                raise ResourceError(f"{self.kind} {where} did not start or answer: {said}") from error
            yield runner

    def _task_runner(self) -> Any:
        if self.kind == "ray":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            from prefect_ray.task_runners import RayTaskRunner

            own = {} if self.address else {"num_cpus": _OWN_WORKERS, "include_dashboard": False}
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
            return RayTaskRunner(self.address or "local", {**own, **quiet})
        from prefect_dask.task_runners import DaskTaskRunner

        if self.address:
            return DaskTaskRunner(address=self.address, client_kwargs={"timeout": _ANSWER_S})
        return DaskTaskRunner(
            cluster_kwargs={
                "n_workers": _OWN_WORKERS, "threads_per_worker": 1, "host": "127.0.0.1",
                "dashboard_address": "127.0.0.1:0", "silence_logs": logging.ERROR,
            }
        )  # fmt: skip

    def _knock(self) -> None:
        parts = urlsplit(self.address)
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), _ANSWER_S).close()
        except OSError as error:
            raise ResourceError(
                f"nothing answers at NANOCHAT_FAN_OUT = {self.address}: {error.strerror or error}",
                f"{_STARTED_BY[self.kind]} starts it; without NANOCHAT_FAN_OUT the work is done here",
            ) from None


def fan_out_of(setting: str, store: Store) -> FanOut | None:
    """What ``NANOCHAT_FAN_OUT`` names, checked; None where the flow's own threads do the work."""
    fan_out = FanOut.parse(setting)
    if fan_out:
        fan_out.check(store)
    return fan_out


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    resource_tracker.ensure_running()  # a later start of it would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
