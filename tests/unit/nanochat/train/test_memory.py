"""Free memory: a container's limit counts, and what is only a cache does not."""

from __future__ import annotations

from pathlib import Path

import psutil

from nanochat.train.memory import free_memory_bytes


def test_the_limit_of_a_container_counts_without_its_caches(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 250\n")
    assert free_memory_bytes(tmp_path) == 350


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    assert 0 < free_memory_bytes(tmp_path) <= total
    (tmp_path / "memory.max").write_text("max\n")
    assert 0 < free_memory_bytes(tmp_path) <= total
