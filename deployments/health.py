"""``python -m deployments.health URL|services``: 0 if it works; health checks of ``compose.yaml``."""

from __future__ import annotations

import os
import socket
import sys
import urllib.request

_PATIENCE_S = 8


def main(argv: list[str]) -> int:
    """0 if it works, else 1."""
    (what,) = argv
    return 0 if (services_beat() if what == "services" else answers(what)) else 1


def answers(url: str) -> bool:
    """Whether a GET of ``url`` gets 200."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310 -- compose.yaml's own
            return bool(answer.status == 200)
    except OSError:
        return False


def services_beat() -> bool:
    """Whether Prefect's services on this host, which listen nowhere, have told Redis lately that they run."""
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(os.environ["PREFECT_SERVER_DOCKET_URL"], socket_timeout=_PATIENCE_S) as redis:
            running = redis.zrange("prefect:workers", 0, -1)
    except RedisError:
        return False
    return any(name.decode().startswith(f"{socket.gethostname()}#") for name in running)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
