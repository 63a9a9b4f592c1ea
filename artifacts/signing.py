"""Signatures: whose key vouches for an artifact, checked against the bytes that are in the store.

A signature is a Sigstore bundle in the format of OpenSSF Model Signing: ECDSA over an in-toto statement
that lists the sha256 of every file. It covers the folder that ``nanochat art get --signed-by`` makes,
which holds the artifact's manifest too, so that recipe, parents and metrics are signed with the bytes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.errors import DataError, ResourceError
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef
from artifacts.signing_keys import fingerprint, public_half, read_public_key
from artifacts.verify import damaged, file_problems

if TYPE_CHECKING:
    from artifacts.store import Store

MANIFEST_FILE, SIGNATURE_FILE = "artifact.json", "signature.json"


@dataclass(frozen=True)
class Signed:
    """A signature that is right: of which artifact, by which key (its fingerprint), and its bytes.

    ``is_new``: it was made just now.
    """

    ref: ArtifactRef
    manifest: Manifest
    key: str
    bundle: bytes
    is_new: bool = False

    def files(self) -> dict[str, bytes]:
        """What lies beside an artifact's files where others shall check it: name -> bytes."""
        return {MANIFEST_FILE: self.manifest.to_bytes(), SIGNATURE_FILE: self.bundle}


def sign(store: Store, ref: str | ArtifactRef, private_key: Path) -> Signed:
    """Sign what ``ref`` means now, after reading every byte of it; a good signature by this key stays.

    Raises DataError if the artifact is damaged; UsageError or ResourceError if the key is of no use.
    """
    _library()
    public = public_half(private_key)
    found, manifest = store.resolve(ref)
    if taken := {MANIFEST_FILE, SIGNATURE_FILE} & manifest.all_files().keys():
        raise DataError(
            f"{found} has a file {min(taken)} of its own", "that name is the signature's: rename it"
        )
    _check_bytes(store, manifest)
    key = layout.signature(manifest.hex, fingerprint(public))
    while True:
        old = store.backend.get(key)
        if old is not None and _flaw(old, manifest, public) is None:
            return Signed(found, manifest, fingerprint(public), old)
        new = _bundle(found, manifest, private_key)
        if store.backend.compare_and_swap(key, old, new):
            return Signed(found, manifest, fingerprint(public), new, is_new=True)


def verify_signature(store: Store, ref: str | ArtifactRef, public_key: Path, *, deep: bool = True) -> Signed:
    """Check that this key signed what ``ref`` means now, and (``deep``) every byte of it in the store.

    Raises DataError that names what is wrong: no signature by this key, one that is not right, or damage.
    """
    _library()
    public = read_public_key(public_key)
    key = fingerprint(public)
    found, manifest = store.resolve(ref)
    data = store.backend.get(layout.signature(manifest.hex, key))
    if data is None:
        raise DataError(
            f"{found} is not signed by the key {key[:16]}",
            f"nanochat art sign {found} --key PRIVATE signs it",
        )
    if (flaw := _flaw(data, manifest, public)) is not None:
        raise DataError(
            f"{found}: its signature by the key {key[:16]} {flaw}",
            f"sign it again: nanochat art sign {found} --key PRIVATE",
        )
    if deep:
        _check_bytes(store, manifest)
    return Signed(found, manifest, key, data)


class _StoredFolder:
    """Stands for model_signing's way to hash a folder: the digests come from the store, nothing is ignored.

    So nothing has to be copied out of the store to be signed or compared with a signature.
    """

    def __init__(self, name: str, manifest: Manifest) -> None:
        self._name, self._manifest = name, manifest

    def hash(self, folder: Path, *, files_to_hash: object = None) -> Any:
        """The paths and digests of the folder that ``Signed`` describes."""
        from model_signing._hashing.hashing import Digest
        from model_signing.manifest import Manifest as Listing
        from model_signing.manifest import SerializationType

        form = SerializationType.from_args({
            "method": "files", "hash_type": "sha256", "allow_symlinks": False,
            "ignore_paths": [SIGNATURE_FILE],
        })  # fmt: skip
        digests = {path: entry.sha256 for path, entry in self._manifest.all_files().items()}
        digests[MANIFEST_FILE] = self._manifest.hex
        items = [form.new_item(path, Digest("sha256", bytes.fromhex(sha))) for path, sha in digests.items()]
        return Listing(self._name, items, form)

    def add_ignored_paths(self, **paths: object) -> None:
        """A signature may not choose what it leaves out."""


def _bundle(ref: ArtifactRef, manifest: Manifest, private_key: Path) -> bytes:
    """The signature's bytes. The name in it is for people: a version's number may differ elsewhere."""
    name = str(ArtifactRef(ref.kind, ref.name, digest=manifest.digest))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, SIGNATURE_FILE)
        config = _library().signing.Config().use_elliptic_key_signer(private_key=private_key)
        config.set_hashing_config(_StoredFolder(name, manifest)).sign(folder, target)
        return target.read_bytes()


def _flaw(data: bytes, manifest: Manifest, public: bytes) -> str | None:
    """What is wrong with a signature of this artifact by this key, or None."""
    from cryptography.exceptions import InvalidSignature
    from sigstore_models.bundle.v1 import Bundle

    with tempfile.TemporaryDirectory() as folder:
        key, signature = Path(folder, "public.pem"), Path(folder, SIGNATURE_FILE)
        key.write_bytes(public)
        signature.write_bytes(data)
        try:
            bundle: Any = Bundle.from_json(data)
            names_key = bundle.verification_material.public_key.hint == fingerprint(public)
            if bundle.to_json().encode() != data or not names_key:
                return "is damaged"  # not as it was written: the signed part may be intact all the same
            config = _library().verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.set_hashing_config(_StoredFolder("", manifest)).verify(Path(folder), signature)
        except InvalidSignature:
            return "is not one by this key, or not of what it lists"
        except Exception as error:  # these are bytes of unknown origin: whatever they cause is a flaw
            return "is of other files" if str(error).startswith("Signature mismatch") else "is damaged"
    return None


def _check_bytes(store: Store, manifest: Manifest) -> None:
    for problem in file_problems(store, manifest, deep=True):
        raise damaged(store, Pointer.to(manifest), problem.file, problem.what)


def _library() -> Any:
    """The package model-signing; raises ResourceError where it is not installed."""
    try:
        import model_signing
    except ImportError as error:
        hint = "pip install 'nanochat-pipeline[signing]'"
        raise ResourceError(f"signatures need the package {error.name}", hint) from error
    return model_signing
