"""Keys to sign with: PEM files of curves that Model Signing knows. What is in one is never shown."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from artifacts.atomic import disk_errors
from artifacts.errors import ResourceError, UsageError

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_HINT = "nanochat art keygen private.pem public.pem makes two"


def fingerprint(public: bytes) -> str:
    """A key's name: the sha256, in hex, of its public half as PEM (``sha256sum public.pem``)."""
    return hashlib.sha256(public).hexdigest()


def new_key(private_key: Path, public_key: Path) -> str:
    """Make a key of curve P-256 in two new files, the private one for its owner alone; its fingerprint."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for path in (private_key, public_key):
        if path.exists():
            raise UsageError(f"{path} exists", "name a new file")
    secret = ec.generate_private_key(ec.SECP256R1())
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = _pem(private_key, secret.public_key())
    _create(private_key, pem, 0o600)
    _create(public_key, public, 0o644)
    return fingerprint(public)


def public_half(private_key: Path) -> bytes:
    """The public half, as PEM, of a private key that is not encrypted and that only its owner can read."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(private_key)
    try:
        secret = load_pem_private_key(data, None)
    except TypeError:
        hint = f"decrypt it: openssl pkey -in {private_key} -out KEY; chmod 600 KEY"
        raise UsageError(f"{private_key} is encrypted", hint) from None
    except Exception:  # its cause could quote what is in the file
        raise UsageError(f"{private_key} holds no private key in PEM", _HINT) from None
    status = private_key.stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:  # as ssh has it
        mode = f"{status.st_mode & 0o777:04o}"
        raise ResourceError(f"{private_key} is open to others, mode {mode}", f"chmod 600 {private_key}")
    return _pem(private_key, secret.public_key())


def read_public_key(path: Path) -> bytes:
    """A public key, as PEM in its one form."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    try:
        public = load_pem_public_key(data)
    except Exception:  # as above: it may be a private key
        raise UsageError(f"{path} holds no public key in PEM", _HINT) from None
    return _pem(path, public)


def _pem(path: Path, public: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _CURVES:
        raise UsageError(f"{path} is not a key of curve P-256, P-384 or P-521", _HINT)
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    with disk_errors(path):
        if not path.is_file():
            raise ResourceError(f"no file {path}", _HINT)
        return path.read_bytes()


def _create(path: Path, data: bytes, mode: int) -> None:
    """Unlike ``artifacts.atomic``: no moment at which others could read it."""
    with disk_errors(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise UsageError(f"{path} exists", "name a new file") from None
        except FileNotFoundError:
            raise ResourceError(f"no folder {path.parent}", "make it first") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
