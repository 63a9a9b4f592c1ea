"""Which of several machines this is, for stages that torchrun spreads over all of them.

Every node runs the same command with the same store, and a home folder of its own. Node 0 builds; the
others (``flows/dispatch/follow.py``) only take part. One node is the ordinary case and needs no setting.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from artifacts.errors import ResourceError, UsageError

_MOST_NODES = 1024


@dataclass(frozen=True)
class Cluster:
    """``NANOCHAT_NODES``, ``_NODE_RANK``, ``_RENDEZVOUS`` (HOST:PORT of node 0), ``_NODE_ADDRESS``.

    ``patience_s``: how long one node waits for a sign of another (``NANOCHAT_NODE_PATIENCE_S``).
    """

    nodes: int = 1
    node_rank: int = 0
    rendezvous: str = ""
    address: str = ""
    patience_s: int = 600

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Cluster:
        """What the environment says. In a Kubernetes indexed job the node's rank is the pod's index."""
        nodes = _number(environ, "NANOCHAT_NODES", 1, range(1, _MOST_NODES + 1))
        rank = "NANOCHAT_NODE_RANK"
        if nodes > 1 and not environ.get(rank):
            rank = "JOB_COMPLETION_INDEX"
        node_rank = _number(environ, rank, 0, range(nodes))
        patience_s = _number(environ, "NANOCHAT_NODE_PATIENCE_S", 600, range(1, 10**6))
        if nodes == 1:
            return cls(patience_s=patience_s)
        rendezvous = environ.get("NANOCHAT_RENDEZVOUS", "")
        host, _, port = rendezvous.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise UsageError(
                f"NANOCHAT_RENDEZVOUS = {rendezvous!r} is no HOST:PORT",
                f"give all {nodes} nodes the same free port of node 0, such as node0:29400",
            )
        return cls(nodes, node_rank, rendezvous, environ.get("NANOCHAT_NODE_ADDRESS", ""), patience_s)

    def share(self, ranks: int) -> int:
        """The processes of each node, of ``ranks`` on all of them. UsageError if they do not divide."""
        if ranks % self.nodes:
            raise UsageError(
                f"nproc = {ranks} processes cannot be shared by {self.nodes} nodes",
                f"--set nproc=N counts those of all nodes: make it a multiple of {self.nodes}",
            )
        return ranks // self.nodes

    def options(self, run_id: str) -> list[str]:
        """How torchrun finds the agents of the other nodes; ``run_id`` keeps one stage from another's."""
        if self.nodes == 1:
            return ["--standalone"]
        conf = f"is_host={int(self.node_rank == 0)},join_timeout={self.patience_s}"
        return [
            f"--nnodes={self.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={self.rendezvous}",
            f"--rdzv-id={run_id}", f"--rdzv-conf={conf}", f"--local-addr={self._own_address()}",
        ]  # fmt: skip

    def answers(self) -> bool:
        """Whether the agent of node 0 waits for the others now."""
        with suppress(OSError), socket.create_connection(self._place, timeout=2.0):
            return True
        return False

    @property
    def _place(self) -> tuple[str, int]:
        host, _, port = self.rendezvous.rpartition(":")
        return host, int(port)

    def _own_address(self) -> str:
        """By which the other nodes reach this one: torchrun asks for a name that they may not know."""
        if self.address or self.node_rank == 0:
            return self.address or self._place[0]
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(self._place)  # sends nothing: only looks up the way
                return str(probe.getsockname()[0])
        except OSError as error:
            raise ResourceError(
                f"no way to {self.rendezvous}: {error}", "set NANOCHAT_RENDEZVOUS to an address of node 0"
            ) from None


def _number(environ: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or int(text) not in allowed:
        raise UsageError(f"{name} = {text!r}", f"a whole number from {allowed[0]} to {allowed[-1]}")
    return int(text)
