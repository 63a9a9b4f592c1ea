from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from artifacts.errors import ResourceError, UsageError
from artifacts.signing_keys import fingerprint, new_key, public_half, read_public_key

PLAIN = serialization.NoEncryption()


def write_private(path: Path, secret, encryption: serialization.KeySerializationEncryption = PLAIN) -> Path:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    path.write_bytes(secret.private_bytes(*form))
    path.chmod(0o600)
    return path


def test_a_new_key_is_two_files_of_one_key(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    name = new_key(private, public)
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o077) == (0o600, 0o044)
    assert public_half(private) == read_public_key(public) == public.read_bytes()
    assert name == fingerprint(public.read_bytes()) == hashlib.sha256(public.read_bytes()).hexdigest()
    assert b"PRIVATE" in private.read_bytes()
    assert b"PRIVATE" not in public.read_bytes()
    assert new_key(tmp_path / "other.pem", tmp_path / "other.pub") != name


@pytest.mark.parametrize("taken", ["private.pem", "public.pem"])
def test_a_new_key_replaces_nothing(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UsageError, match=f"{taken} exists"):
        new_key(tmp_path / "private.pem", tmp_path / "public.pem")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_a_new_key_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no folder"):
        new_key(tmp_path / "absent" / "private.pem", tmp_path / "public.pem")


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name
)
def test_the_curves_of_model_signing_are_taken(curve: ec.EllipticCurve, tmp_path: Path) -> None:
    secret = ec.generate_private_key(curve)
    path = write_private(tmp_path / "key", secret)
    (tmp_path / "pub").write_bytes(b"a comment\n" + public_half(path) + b"\n")
    assert read_public_key(tmp_path / "pub") == public_half(path)


@pytest.mark.parametrize(
    "secret",
    [ec.generate_private_key(ec.SECP256K1()), ed25519.Ed25519PrivateKey.generate(),
     rsa.generate_private_key(65537, 2048)],
    ids=["secp256k1", "ed25519", "rsa"],
)  # fmt: skip
def test_other_keys_are_refused(secret, tmp_path: Path) -> None:
    path = write_private(tmp_path / "key", secret)
    with pytest.raises(UsageError, match="is not a key of curve"):
        public_half(path)
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "pub").write_bytes(secret.public_key().public_bytes(*form))
    with pytest.raises(UsageError, match="is not a key of curve"):
        read_public_key(tmp_path / "pub")


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    encryption = serialization.BestAvailableEncryption(b"password")
    path = write_private(tmp_path / "key", ec.generate_private_key(ec.SECP256R1()), encryption)
    with pytest.raises(UsageError, match=r"is encrypted.*openssl pkey"):
        public_half(path)


@pytest.mark.parametrize(
    "data", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_files_without_a_key_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="holds no private key"):
        public_half(path)
    with pytest.raises(UsageError, match="holds no public key"):
        read_public_key(path)


@pytest.mark.parametrize("name", ["absent", "."])
def test_an_absent_file_is_a_resource_error(name: str, tmp_path: Path) -> None:
    for read in (public_half, read_public_key):
        with pytest.raises(ResourceError, match="no file"):
            read(tmp_path / name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o644])
def test_a_private_key_that_others_can_open_is_refused(mode: int, tmp_path: Path) -> None:
    new_key(tmp_path / "private.pem", tmp_path / "public.pem")
    (tmp_path / "private.pem").chmod(mode)
    with pytest.raises(ResourceError, match=f"open to others, mode {mode:04o} .chmod 600"):
        public_half(tmp_path / "private.pem")
    (tmp_path / "private.pem").chmod(0o400)
    assert public_half(tmp_path / "private.pem")
