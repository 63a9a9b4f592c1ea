from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifacts.errors import DataError, ResourceError
from artifacts.signing import MANIFEST_FILE, SIGNATURE_FILE, Signed, sign, verify_signature
from artifacts.signing_keys import new_key
from artifacts.store import Store


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    new_key(private, public)
    return private, public


def statement(signed: Signed) -> dict:
    return json.loads(base64.b64decode(json.loads(signed.bundle)["dsseEnvelope"]["payload"]))


def test_a_signature_lists_every_file_and_the_manifest(make, store: Store, keys: tuple[Path, Path]) -> None:
    manifest = make.commit().manifest
    signed = sign(store, "base/demo", keys[0])
    said = statement(signed)
    assert {item["name"]: item["digest"] for item in said["predicate"]["resources"]} == {
        **{path: entry.sha256 for path, entry in manifest.all_files().items()}, MANIFEST_FILE: manifest.hex,
    }  # fmt: skip
    assert [subject["name"] for subject in said["subject"]] == [f"base/demo@sha256:{manifest.digest}"]
    assert signed.files() == {MANIFEST_FILE: manifest.to_bytes(), SIGNATURE_FILE: signed.bundle}


def test_it_is_kept_under_manifest_and_key(make, store: Store, root: Path, keys: tuple[Path, Path]) -> None:
    manifest = make.commit().manifest
    signed = sign(store, "base/demo", keys[0])
    file = root / "signatures" / manifest.hex / f"{signed.key[:16]}.json"
    assert file.read_bytes() == signed.bundle
    assert str(verify_signature(store, "base/demo@v1", keys[1]).ref) == "base/demo@v1"


def test_signing_again_changes_nothing(
    make, store: Store, root: Path, keys: tuple[Path, Path], snapshot: Callable
) -> None:
    make.commit()
    first = sign(store, "base/demo", keys[0])
    before = snapshot(root)
    second = sign(store, "base/demo@v1", keys[0])
    assert (first.is_new, second.is_new) == (True, False)
    assert first.bundle == second.bundle
    assert snapshot(root) == before


def test_of_those_who_sign_at_once_one_wins(make, store: Store, keys: tuple[Path, Path]) -> None:
    make.commit()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: sign(store, "base/demo", keys[0]), range(4)))
    assert [signed.is_new for signed in made].count(True) == 1
    assert len({signed.bundle for signed in made}) == 1


def test_several_keys_may_sign(make, store: Store, keys: tuple[Path, Path], tmp_path: Path) -> None:
    make.commit()
    new_key(tmp_path / "other.pem", tmp_path / "other.pub")
    first, second = sign(store, "base/demo", keys[0]), sign(store, "base/demo", tmp_path / "other.pem")
    assert first.key != second.key
    assert verify_signature(store, "base/demo", keys[1]).key == first.key
    assert verify_signature(store, "base/demo", tmp_path / "other.pub").key == second.key


def test_what_is_damaged_is_not_signed(
    make, store: Store, root: Path, keys: tuple[Path, Path], blob_of: Callable, flip: Callable
) -> None:
    flip(blob_of(make.commit(run={"log": b"log"}).manifest, "run/log"))
    with pytest.raises(DataError, match=r"base/demo@v1 is damaged: run/log "):
        sign(store, "base/demo", keys[0])
    assert not (root / "signatures").exists()


@pytest.mark.parametrize("name", [MANIFEST_FILE, SIGNATURE_FILE])
def test_a_file_of_the_name_of_ours_is_refused(
    make, store: Store, keys: tuple[Path, Path], name: str
) -> None:
    make.commit({name: b"x"})
    with pytest.raises(DataError, match=f"has a file {name} of its own"):
        sign(store, "base/demo", keys[0])


def test_a_damaged_signature_says_how_to_mend_it(
    make, store: Store, root: Path, keys: tuple[Path, Path], flip: Callable
) -> None:
    make.commit()
    sign(store, "base/demo", keys[0])
    (file,) = (root / "signatures").rglob("*.json")
    flip(file)
    with pytest.raises(DataError, match=r"is damaged .sign it again: nanochat art sign base/demo@v1"):
        verify_signature(store, "base/demo", keys[1])
    assert sign(store, "base/demo", keys[0]).is_new
    verify_signature(store, "base/demo", keys[1])


def test_without_deep_the_files_are_not_read(
    make, store: Store, keys: tuple[Path, Path], blob_of: Callable, flip: Callable
) -> None:
    manifest = make.commit().manifest
    sign(store, "base/demo", keys[0])
    flip(blob_of(manifest, "model.bin"))
    verify_signature(store, "base/demo", keys[1], deep=False)
    with pytest.raises(DataError, match=r"model\.bin does not have its sha256"):
        verify_signature(store, "base/demo", keys[1])


def test_what_is_absent(make, store: Store, keys: tuple[Path, Path]) -> None:
    make.commit()
    with pytest.raises(
        DataError, match=r"is not signed by the key [0-9a-f]{16} .nanochat art sign base/demo@v1"
    ):
        verify_signature(store, "base/demo", keys[1])
    with pytest.raises(ResourceError):
        verify_signature(store, "base/other", keys[1])


def test_without_the_package_it_says_which_command_installs_it(
    make, store: Store, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make.commit()
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for use, key in ((sign, keys[0]), (verify_signature, keys[1])):
        with pytest.raises(ResourceError, match=r"model_signing.*pip install 'nanochat-pipeline\[signing\]'"):
            use(store, "base/demo", key)
