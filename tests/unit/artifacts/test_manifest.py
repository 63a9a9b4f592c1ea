from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from artifacts.errors import DataError
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft, FileEntry, Manifest, Provenance, draft_manifest, payload_digest

A, B = (
    FileEntry(path=path, size=1, sha256=letter * 64) for path, letter in (("a.bin", "a"), ("b/c.bin", "b"))
)
PAYLOAD = recipe("base", 1, {"depth": 4}, inputs={}, modules={})


def draft(**fields: Any) -> Draft:
    return Draft(
        **{"stage": "base", "kind": "base", "fingerprint": sha256_json(PAYLOAD), "recipe": PAYLOAD} | fields
    )


def test_the_digest_is_that_of_the_sorted_files() -> None:
    text = json.dumps([["a.bin", 1, "a" * 64], ["b/c.bin", 1, "b" * 64]], separators=(",", ":"))
    assert payload_digest((B, A)) == payload_digest((A, B)) == hashlib.sha256(text.encode()).hexdigest()


def test_run_files_clock_and_command_are_not_in_the_digest() -> None:
    one = draft_manifest(draft(created="2026-01-01T00:00:00+00:00"), (A,), ())
    two = draft_manifest(draft(provenance=Provenance(command="other"), metrics={"s": 2.5}), (A,), (B,))
    assert one.digest == two.digest
    assert one.hex != two.hex


def test_stored_bytes_are_read_back_equal() -> None:
    manifest = draft_manifest(draft(metrics={"val_bpb": 1.25, "steps": 3, "note": "ok"}), (A,), (B,))
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.to_bytes() == manifest.to_bytes()
    assert again.all_files() == {"a.bin": A, "run/b/c.bin": B}
    assert again.total_bytes == 2
    assert json.loads(manifest.to_bytes())["schema"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2), ("digest", "0" * 64), ("stage", "../x"), ("fingerprint", "0" * 64), ("files", []),
        ("new", 1), ("recipe", {}), ("parents", [{}]),
        ("files", [{"path": "../../etc/passwd", "size": 1, "sha256": "a" * 64}]),
    ],
)  # fmt: skip
def test_a_manifest_that_lies_is_refused(field: str, value: Any) -> None:
    record = json.loads(draft_manifest(draft(), (A,), ()).to_bytes()) | {field: value}
    with pytest.raises(DataError) as error:
        Manifest.from_bytes(json.dumps(record).encode())
    assert "\n" not in str(error.value)


def test_torn_bytes_are_refused() -> None:
    with pytest.raises(DataError):
        Manifest.from_bytes(draft_manifest(draft(), (A,), ()).to_bytes()[:-1])


def test_a_fingerprint_is_that_of_its_recipe() -> None:
    with pytest.raises(ValidationError, match="fingerprint"):
        draft(fingerprint="0" * 64)


@pytest.mark.criterion("T90")
def test_no_secret_reaches_a_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary-in-environment")
    provenance = Provenance(
        command="run --set hub.token=canary-in-argument https://me:canary-in-url@host/?k=canary-in-query",
        settings={"api_key": "canary-in-settings", "log": "canary-in-environment"},
    )
    manifest = draft_manifest(
        draft(provenance=provenance, metrics={"note": "password=canary-metric"}), (A,), ()
    )
    assert b"canary" not in manifest.to_bytes()
    dirty = {**PAYLOAD, "config": {"url": "https://me:canary@host/"}}
    with pytest.raises(ValueError, match="holds a secret"):
        draft_manifest(draft(recipe=dirty, fingerprint=sha256_json(dirty)), (A,), ())
