"""``nanochat art keygen`` and ``sign``, and the checks behind ``--signed-by``."""

from __future__ import annotations

from pathlib import Path

from artifacts import signing, signing_keys
from artifacts.errors import UsageError
from artifacts.store import Store
from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json


def keygen(private: Path, public: Path, /, *, json: Json = False) -> int:
    """Make a key to sign artifacts with, as two files.

    Parameters
    ----------
    private
        Where the private key goes; it stays with you, and is not encrypted.
    public
        Where the public key goes, which is for everybody who checks what you sign.
    """
    key = signing_keys.new_key(private, public)
    if json:
        print_json({"key": key, "private": str(private), "public": str(public)})
    else:
        print(f"{private} is for you alone, {public} for everybody: key {key[:16]}")
    return 0


def sign(ref: str, /, *, key: Path, store: StoreUrl = None, json: Json = False) -> int:
    """Sign an artifact with a private key, after checking every byte of it.

    Parameters
    ----------
    ref
        The artifact.
    key
        The private key: a PEM file of curve P-256, P-384 or P-521.
    """
    made = signing.sign(open_store(store), ref, key)
    if json:
        print_json(_facts(made) | {"new": made.is_new})
    else:
        print(f"{made.ref} {'is' if made.is_new else 'was already'} signed by the key {made.key[:16]}")
    return 0


def check(store: Store, ref: str | None, public_key: Path, *, deep: bool, json: bool) -> int:
    """What ``art verify --signed-by`` does; raises DataError unless all is right."""
    if ref is None:
        raise UsageError(
            "--signed-by checks one artifact", "name it: nanochat art verify REF --signed-by KEY"
        )
    found = signing.verify_signature(store, ref, public_key, deep=deep)
    if json:
        print_json({"ok": True, "problems": []} | _facts(found))
    else:
        state = "intact, and" if deep else "its bytes were not read; it is"
        print(f"{state} signed by the key {found.key[:16]}")
    return 0


def _facts(signed: signing.Signed) -> dict[str, str]:
    """What programs are told about a signature."""
    return {
        "artifact": str(signed.ref), "digest": signed.manifest.digest, "manifest": signed.manifest.hex,
        "key": signed.key,
    }  # fmt: skip
