"""Sockets and addresses; how it ends is tested on the command itself."""

from __future__ import annotations

import socket

import pytest

from artifacts.errors import ResourceError, UsageError
from nanochat.serve.server import address_of, bind


def test_a_free_port_and_its_address() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ResourceError, match="cannot be used"):
            bind("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize("port", [70_000, -1])
def test_no_port_is_one_line(port: int) -> None:
    with pytest.raises(UsageError, match=f"--port {port}"):
        bind("127.0.0.1", port)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        listener = bind("::1", 0)
    except ResourceError:
        pytest.skip("no IPv6 loopback here")
    with listener:
        assert address_of(listener).startswith("http://[::1]:")
