"""A signature passes as long as not one byte of what it is about has changed, here and for outsiders."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts import layout
from artifacts.backends import Backend
from artifacts.commit import Published
from artifacts.errors import DataError, UsageError
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft, Parent
from artifacts.signing import sign, verify_signature
from artifacts.signing_keys import fingerprint, new_key
from artifacts.store import Store

pytestmark = pytest.mark.criterion("T51")
FILES = {"model.bin": random.Random(51).randbytes(3000), "sub/config.json": b"{}", "sub-b": b"b"}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # only a power cut would miss it


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    new_key(private, public)
    return private, public


@pytest.fixture
def store(backend: Backend) -> Store:
    return Store(backend)


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Published:
    return commit(store, tmp_path / "payload")


def commit(store: Store, folder: Path, weights: bytes = FILES["model.bin"], **metrics: float) -> Published:
    for name, data in (FILES | {"model.bin": weights}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder.parent / "run").mkdir(exist_ok=True)
    (folder.parent / "run" / "records.jsonl").write_bytes(b"{}\n")
    tokens = store.commit(draft("tokens"), folder, name="demo").manifest
    parent = Parent(role="tokens", ref="tokens/demo@v1", digest=tokens.digest, manifest=tokens.hex)
    model = draft("base", parents=(parent,), metrics=metrics)
    return store.commit(model, folder, folder.parent / "run", name="demo", replace_fingerprint=True)


def draft(stage: str, **fields: Any) -> Draft:
    payload = recipe(stage, 1, {"depth": 4}, inputs={}, modules={})
    return Draft(stage=stage, kind=stage, fingerprint=sha256_json(payload), recipe=payload, **fields)


def flipped(data: bytes, offset: int, bits: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ bits]) + data[offset + 1 :]


def test_one_changed_byte_of_anything_fails(store: Store, made: Published, keys: tuple[Path, Path]) -> None:
    private, public = keys
    signed = sign(store, "base/demo", private)
    assert verify_signature(store, "base/demo", public) == replace(signed, is_new=False)
    signature = layout.signature(made.manifest.hex, signed.key)
    blobs = [layout.blob(entry.sha256) for entry in made.manifest.all_files().values()]
    rng = random.Random(51)
    for key, times in [
        (signature, 12),
        (layout.manifest(made.manifest.hex), 6),
        *((blob, 2) for blob in blobs),
    ]:
        data = store.backend.get(key)
        assert data
        for _ in range(times):
            store.backend.put(key, flipped(data, rng.randrange(len(data)), rng.randrange(1, 256)))
            with pytest.raises(DataError) as failed:
                verify_signature(store, "base/demo", public)
            assert "\n" not in str(failed.value)
        store.backend.put(key, data)
        verify_signature(store, "base/demo", public)


def test_every_byte_of_the_signature_counts(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    store = Store.open(str(tmp_path / "store"))
    hex_ = commit(store, tmp_path / "payload").manifest.hex
    key = layout.signature(hex_, sign(store, "base/demo", keys[0]).key)
    data = store.backend.get(key)
    assert data
    start, rng = data.index(b'"payload":') + 11, random.Random(51)
    end = data.index(b'"', start)
    signed = range(start, end - 8)  # a sample of these is enough; the rest is not what is signed
    for offset in [*(set(range(len(data))) - set(signed)), *rng.sample(signed, 50)]:
        store.backend.put(key, flipped(data, offset, rng.choice([1, 2, 32])))  # 32: the other case
        with pytest.raises(DataError):
            verify_signature(store, "base/demo", keys[1], deep=False)
    hint = b'"hint":"%s"' % fingerprint((tmp_path / "public.pem").read_bytes()).encode()
    assert hint in data
    for other in (
        data.replace(hint, b""),
        data.replace(hint, b'"hint":""'),
        b"",
        data[:-1],
        data + b"\n",
        b" " + data,
        b"[" * 100_000,
        b"null",
        b"{}",
        b"\xff",
    ):
        store.backend.put(key, other)
        with pytest.raises(DataError, match="is damaged"):
            verify_signature(store, "base/demo", keys[1], deep=False)


def test_a_signature_is_of_one_artifact_and_its_record(
    store: Store, made: Published, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    signed = sign(store, "base/demo", keys[0])
    other = commit(store, tmp_path / "payload", b"other", loss=1.0)
    assert str(other.ref) == "base/demo@v2"
    with pytest.raises(DataError, match=r"base/demo@v2 is not signed by the key [0-9a-f]{16}"):
        verify_signature(store, "base/demo", keys[1])
    store.backend.put(layout.signature(other.manifest.hex, signed.key), signed.bundle)
    with pytest.raises(DataError, match="is of other files"):
        verify_signature(store, "base/demo", keys[1])
    verify_signature(store, made.ref or "", keys[1])


def test_another_key_does_not_pass(
    store: Store, made: Published, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    ours = sign(store, "base/demo", keys[0])
    new_key(tmp_path / "theirs.pem", tmp_path / "theirs.pub")
    with pytest.raises(DataError, match="is not signed by the key"):
        verify_signature(store, "base/demo", tmp_path / "theirs.pub")
    theirs = sign(store, "base/demo", tmp_path / "theirs.pem")
    store.backend.put(layout.signature(made.manifest.hex, ours.key), theirs.bundle)
    with pytest.raises(DataError, match="its signature by the key"):
        verify_signature(store, "base/demo", keys[1])
    disguised = theirs.bundle.replace(theirs.key.encode(), ours.key.encode())
    store.backend.put(layout.signature(made.manifest.hex, ours.key), disguised)
    with pytest.raises(DataError, match="not one by this key"):
        verify_signature(store, "base/demo", keys[1])
    assert sign(store, "base/demo", keys[0]).is_new  # which mends it
    verify_signature(store, "base/demo", keys[1])


def test_a_private_key_is_never_shown(
    store: Store, made: Published, keys: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    private, _ = keys
    secret = private.read_text().splitlines()[1]
    said = [sign(store, "base/demo", private).bundle.decode()]
    with pytest.raises(UsageError, match="holds no public key") as failed:
        verify_signature(store, "base/demo", private)
    said += traceback.format_exception(failed.value)
    private.write_text(private.read_text().replace("A", "", 1))
    with pytest.raises(UsageError, match="holds no private key") as failed:
        sign(store, "base/demo", private)
    said += traceback.format_exception(failed.value)
    said += [*capfd.readouterr(), *(str(store.backend.get(info.key)) for info in store.backend.list(""))]
    assert secret[:20] not in "".join(said)


@pytest.fixture
def model_signing() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The program of those who have none of our code, offline; ends with ``rc``."""

    def run(*arguments: str | Path, rc: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "model_signing", *arguments], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == rc, done
        return done

    return run


def delivered(store: Store, made: Published, public: Path, folder: Path) -> Path:
    """The folder that ``nanochat art get --signed-by`` makes."""
    view = store.checkout(made.manifest, folder.parent / "views")
    files = {path: (view / path).read_bytes() for path in made.manifest.all_files()}
    for path, data in (files | verify_signature(store, "base/demo", public, deep=False).files()).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_outsiders_can_check_what_we_sign_and_we_what_they_sign(
    tmp_path: Path, keys: tuple[Path, Path], model_signing: Callable
) -> None:
    private, public = keys
    store = Store.open(str(tmp_path / "store"))
    made = commit(store, tmp_path / "payload")
    signed = sign(store, "base/demo", private)
    folder = delivered(store, made, public, tmp_path / "folder")
    check = ("verify", "key", folder, "--signature", folder / "signature.json", "--public_key", public)
    model_signing(*check)
    data = (folder / "artifact.json").read_bytes()
    (folder / "artifact.json").write_bytes(flipped(data, len(data) // 2, 1))
    failed = model_signing(*check, rc=1).stderr
    assert "Hash mismatch" in failed
    assert "artifact.json" in failed
    (folder / "artifact.json").write_bytes(data)
    theirs = tmp_path / "theirs.json"
    model_signing(
        "sign", "key", folder, "--signature", theirs, "--ignore-paths", folder / "signature.json",
        "--private_key", private,
    )  # fmt: skip
    store.backend.put(layout.signature(made.manifest.hex, signed.key), theirs.read_bytes())
    assert verify_signature(store, "base/demo", public).bundle == theirs.read_bytes() != signed.bundle
