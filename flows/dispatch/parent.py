"""Whether a run still wants what it has asked for, for those who do it elsewhere and may outlive it."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound


def has_ended(flow_run: UUID) -> bool:
    """True once a run has ended, is being cancelled, or was deleted. httpx.HTTPError without its server."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(flow_run).state
        except ObjectNotFound:
            return True
    return state is None or state.is_final() or state.is_cancelling()
