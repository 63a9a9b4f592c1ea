from __future__ import annotations

import pytest

from artifacts import layout
from artifacts.errors import DataError, UsageError

HEX = "ab" + "0" * 62


def test_keys_are_as_the_contract_says() -> None:
    assert layout.blob(HEX) == f"blobs/sha256/ab/{HEX}"
    assert layout.manifest(HEX) == f"manifests/{HEX}.json"
    assert layout.fingerprint("eval-base", HEX) == f"fingerprints/eval-base/{HEX}.json"
    assert layout.version("base", "demo", 3) == "names/base/demo/v3.json"
    assert layout.alias("base", "demo", "prod") == "aliases/base/demo/prod.json"
    assert layout.lease(f"base/{HEX}") == f"leases/base/{HEX}.json"
    assert layout.attempt(HEX) == f"attempts/{HEX}"
    assert layout.pin("base", "demo", 3) == "pins/base/demo/v3.json"
    assert layout.metrics("2026-02-28", HEX) == f"metrics/2026-02-28/{HEX}.parquet"
    assert layout.signature(HEX, "c" * 64) == f"signatures/{HEX}/{'c' * 16}.json"


def test_what_an_object_is_kept_for() -> None:
    assert layout.lives_with(layout.signature(HEX, HEX)) == layout.manifest(HEX)
    for key in (layout.manifest(HEX), layout.blob(HEX)):
        assert layout.lives_with(key) == key


def test_versions_are_read_out_of_keys() -> None:
    for key in (layout.version("base", "demo", 12), layout.pin("base", "demo", 12)):
        assert layout.version_of(key) == ("base", "demo", 12)
    for key in ("names/base/demo/v0.json", "names/base/v1.json", "aliases/base/demo/v1.json", "names/a/b/v1"):
        assert layout.version_of(key) is None


def test_snapshots_are_read_out_of_the_keys_of_their_parts() -> None:
    snapshot = layout.Snapshot(HEX, 120, 3)
    assert snapshot.manifest == f"attempts/{HEX}/00000120-3.json"
    assert snapshot.file("checkpoints/x") == f"attempts/{HEX}/00000120-3/checkpoints/x"
    for key in (snapshot.manifest, snapshot.file("log.txt"), snapshot.file("checkpoints/x.json")):
        assert layout.snapshot_of(key) == snapshot
    for key in (f"attempts/{HEX}/log.txt", f"attempts/{HEX}/00000120-3", "attempts/x/00000120-3.json"):
        assert layout.snapshot_of(key) is None
    assert layout.Snapshot(HEX, 10**9, 1) > layout.Snapshot(HEX, 99_999_999, 2), "by step, not by spelling"
    with pytest.raises(UsageError):
        snapshot.file("../x")


@pytest.mark.parametrize("bad", ["", "..", "a/b", "A", "x\n"])
def test_no_key_is_made_of_free_text(bad: str) -> None:
    makers = [layout.blob, layout.manifest, layout.attempt, layout.lease]
    makers += [lambda text: layout.fingerprint(text, HEX), lambda text: layout.fingerprint("base", text)]
    makers += [lambda text: layout.metrics(text, HEX), lambda text: layout.metrics("2026-02-28", text)]
    makers += [lambda text: layout.names("base", text), lambda text: layout.alias("base", "demo", text)]
    makers += [lambda text: layout.signature(text, HEX), lambda text: layout.signature(HEX, text)]
    for make in makers:
        if make is layout.lease and bad == "a/b":
            continue  # a lease may have several segments
        with pytest.raises(UsageError):
            make(bad)
    for key in ("../x", "a//b", "/a", ""):
        with pytest.raises(UsageError):
            layout.lease(key)


def test_records_are_read_back_and_damage_is_named() -> None:
    assert layout.decode("k", layout.encode({"b": 1, "a": None})) == {"a": None, "b": 1}
    for data in (b"", b"{", b"[]", b"\xff", b"null"):
        with pytest.raises(DataError, match="names/x is damaged"):
            layout.decode("names/x", data)
