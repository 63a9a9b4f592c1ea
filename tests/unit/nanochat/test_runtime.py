"""Which of the stage's processes this is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanochat.runtime import Job, _context


@pytest.mark.parametrize(
    ("environment", "rank", "world_size"),
    [
        ({}, 0, 1),
        ({"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8"}, 3, 8),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "NANOCHAT_FIRST_RANK": "2"}, 2, 4),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "NANOCHAT_FIRST_RANK": "0"}, 1, 4),
    ],
    ids=["alone", "one node", "node 1, first by address", "node 0, last by address"],
)
def test_the_first_ranks_are_those_of_the_node_that_has_the_attempt(
    environment: dict[str, str], rank: int, world_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NANOCHAT_FIRST_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    job = Job(stage="base", config={}, inputs={}, output=str(tmp_path / "o"), attempt=str(tmp_path / "a"))
    context = _context(job, seed=5)
    assert (context.rank, context.world_size, context.is_main) == (rank, world_size, rank == 0)
