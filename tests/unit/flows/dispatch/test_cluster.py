"""Which of several machines this is: read from the environment, or refused in one line."""

from __future__ import annotations

import socket

import pytest

from artifacts.errors import ResourceError, UsageError
from flows.dispatch.cluster import Cluster

TWO = {"NANOCHAT_NODES": "2", "NANOCHAT_RENDEZVOUS": "node0:29400"}


def test_one_machine_needs_no_setting() -> None:
    assert Cluster.read({}) == Cluster()
    assert Cluster.read({"NANOCHAT_NODES": "", "NANOCHAT_NODE_RANK": "0"}) == Cluster()
    assert Cluster().options("any") == ["--standalone"]


@pytest.mark.parametrize(
    ("more", "rank"),
    [
        ({}, 0),
        ({"NANOCHAT_NODE_RANK": "1"}, 1),
        ({"JOB_COMPLETION_INDEX": "1"}, 1),
        ({"JOB_COMPLETION_INDEX": "1", "NANOCHAT_NODE_RANK": "0"}, 0),
    ],
)
def test_a_node_is_told_its_rank_or_takes_the_pods_index(more: dict[str, str], rank: int) -> None:
    assert Cluster.read(TWO | more) == Cluster(2, rank, "node0:29400")


def test_the_index_of_an_only_node_means_nothing() -> None:
    assert Cluster.read({"JOB_COMPLETION_INDEX": "3"}) == Cluster()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"NANOCHAT_NODES": "two"}, r"NANOCHAT_NODES = 'two' \(a whole number from 1 to 1024\)"),
        ({"NANOCHAT_NODES": "0"}, "NANOCHAT_NODES = '0'"),
        (TWO | {"NANOCHAT_NODE_RANK": "2"}, r"NANOCHAT_NODE_RANK = '2' \(a whole number from 0 to 1\)"),
        ({"NANOCHAT_NODE_RANK": "1"}, r"NANOCHAT_NODE_RANK = '1' \(a whole number from 0 to 0\)"),
        (TWO | {"JOB_COMPLETION_INDEX": "5"}, "JOB_COMPLETION_INDEX = '5'"),
        (TWO | {"NANOCHAT_RENDEZVOUS": ""}, "NANOCHAT_RENDEZVOUS = '' is no HOST:PORT"),
        (TWO | {"NANOCHAT_RENDEZVOUS": "node0"}, "'node0' is no HOST:PORT .give all 2 nodes the same"),
        (TWO | {"NANOCHAT_RENDEZVOUS": "node0:70000"}, "'node0:70000' is no HOST:PORT"),
        (TWO | {"NANOCHAT_NODE_PATIENCE_S": "-1"}, "NANOCHAT_NODE_PATIENCE_S = '-1'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Cluster.read(wrong)


def test_processes_are_counted_over_all_nodes() -> None:
    assert [Cluster().share(3), Cluster(2, 0, "n:1").share(8)] == [3, 4]
    with pytest.raises(UsageError, match=r"nproc = 3 .* 2 nodes .*a multiple of 2"):
        Cluster(2, 0, "n:1").share(3)


def test_a_node_gives_the_address_by_which_node_0_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def address(cluster: Cluster) -> str:
        return cluster.options("run")[-1]

    assert address(Cluster(2, 0, "node0:29400")) == "--local-addr=node0"
    assert address(Cluster(2, 1, "127.0.0.1:29400")) == "--local-addr=127.0.0.1"
    assert address(Cluster(2, 1, "127.0.0.1:29400", "10.0.0.7")) == "--local-addr=10.0.0.7"
    monkeypatch.setattr(socket.socket, "connect", _unreachable)
    with pytest.raises(ResourceError, match="no way to node0:29400: no such host"):
        address(Cluster(2, 1, "node0:29400"))


def test_node_0_answers_while_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = Cluster(2, 1, f"127.0.0.1:{server.getsockname()[1]}")
        assert cluster.answers()
    assert not cluster.answers()


def _unreachable(*_: object) -> None:
    raise OSError("no such host")
