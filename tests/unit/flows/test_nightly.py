"""Which models a night is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.backends.memory import MemoryBackend
from artifacts.errors import UsageError
from artifacts.manifest import Draft
from artifacts.store import Store
from flows.nightly import NightlyParams, aliased


@pytest.fixture
def store(home: Path, draft: Callable[..., Draft], tmp_path: Path) -> Store:
    """A store with base/demo@v1 and @v2; prod is v1."""
    made = Store(MemoryBackend())
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model").write_text(str(number))
        made.commit(draft(config={"number": number}), folder, name="demo")
    made.set_alias("base/demo@v1", "prod")
    return made


def test_every_alias_that_a_model_has(store: Store) -> None:
    found = aliased(store, NightlyParams(models=["base/demo"], aliases=["prod", "canary", "latest"]))
    assert [str(ref) for ref in found] == ["base/demo@prod", "base/demo@latest"]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["base/demo@prod"], "names no model"),
        (["tokens/demo"], "names no model"),
        (["base/other"], "no alias prod or latest of base/other"),
    ],
)
def test_what_cannot_be_meant_is_said(store: Store, models: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        aliased(store, NightlyParams(models=models))
