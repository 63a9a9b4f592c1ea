"""The models of a store as the server lists and opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import ResourceError, UsageError
from artifacts.manifest import Draft
from artifacts.store import Store
from flows.models import StoreModels
from nanochat.serve.models import UnknownModel


@pytest.fixture
def models(home: Path, tmp_path: Path, draft: Callable[..., Draft]) -> StoreModels:
    """A store with two versions of a model, a base model and a tokenizer."""
    store = Store.open()
    for number, kind in enumerate(["base", "sft", "tokenizer", "sft"]):
        payload = tmp_path / f"payload-{number}"
        payload.mkdir()
        (payload / "config.json").write_text(f"{number}")
        store.commit(draft(kind, {"number": number}), payload, name="demo")
    store.set_alias("sft/demo@v1", "prod")
    return StoreModels(store)


def test_models_are_listed_newest_first_with_their_aliases(models: StoreModels) -> None:
    found = models.models()
    assert sorted(entry.ref for entry in found) == ["base/demo@v1", "sft/demo@v1", "sft/demo@v2"]
    assert [entry.created for entry in found] == sorted((entry.created for entry in found), reverse=True)
    by_ref = {entry.ref: entry for entry in found}
    assert by_ref["sft/demo@v1"].aliases == ("prod",)
    assert "latest" in by_ref["sft/demo@v2"].aliases
    assert (by_ref["sft/demo@v1"].chat, by_ref["base/demo@v1"].chat) == (True, False)


def test_any_name_of_a_model_leads_to_its_files(models: StoreModels) -> None:
    for name, ref, text in (("sft/demo", "sft/demo@v2", "3"), ("sft/demo@prod", "sft/demo@v1", "1")):
        assert models.resolve(name) == ref
        assert (models.folder(ref) / "config.json").read_text() == text


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("tokenizer/demo", UsageError),
        ("sft/none", UnknownModel),
        ("gpt-4", UsageError),
        ("sft/demo@v9", UnknownModel),
    ],
)
def test_what_is_no_model(models: StoreModels, ref: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        models.resolve(ref)


def test_a_store_that_cannot_be_asked_is_not_an_unknown_model(
    models: StoreModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(ref: str) -> None:
        raise ResourceError("s3://bucket: no answer")

    monkeypatch.setattr(models._store.names, "find", away)
    with pytest.raises(ResourceError) as error:
        models.resolve("sft/demo")
    assert not isinstance(error.value, UnknownModel)


def test_without_a_run_of_this_machine_the_newest_chat_model_is_the_default(models: StoreModels) -> None:
    assert models.default() == next(entry.ref for entry in models.models() if entry.chat)


def test_an_empty_store_has_no_default(home: Path) -> None:
    assert StoreModels(Store.open()).default() is None
