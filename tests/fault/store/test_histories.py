"""Any history of calls leaves every backend as it would leave a dict."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from artifacts.backends import Backend
from artifacts.errors import DataError

KEYS = ("a", "b/c", "b/d", "b/e/f", "blobs/g")
VALUES = (b"", b"1", b"2", b"3" * 100_000, b"4" * 9_000_000)  # the last goes to a bucket in parts
VERBS = ("put", "put_new", "compare_and_swap", "delete", "touch", "upload", "upload other", "get", "download",
         "list")  # fmt: skip


@pytest.mark.criterion("T40")
@pytest.mark.parametrize("seed", range(3))
def test_any_history_ends_as_that_of_a_dict(backend: Backend, tmp_path: Path, seed: int) -> None:
    rng, model = random.Random(seed), dict[str, bytes]()
    for number in range(100):
        verb, key = rng.choice(VERBS), rng.choice(KEYS)
        answers = step(backend, model, rng, verb, key, tmp_path / str(number))
        assert answers[0] == answers[1], f"call {number}: {verb} {key}"
    assert {info.key: backend.get(info.key) for info in backend.list("")} == model
    assert list(backend.get_many(KEYS)) == [model.get(key) for key in KEYS]
    assert list(backend.leftovers()) == []


def step(
    backend: Backend, model: dict[str, bytes], rng: random.Random, verb: str, key: str, file: Path
) -> tuple[object, object]:
    """Do one thing to both; what the backend said, and what a dict would have."""
    had, value = model.get(key), rng.choice(VALUES)
    match verb:
        case "put":
            model[key] = value
            return backend.put(key, value), None
        case "put_new":
            model.setdefault(key, value)
            return backend.put_new(key, value), had is None
        case "compare_and_swap":
            expected = rng.choice((had, None, b"1"))
            if expected == had:
                model[key] = value
            return backend.compare_and_swap(key, expected, value), expected == had
        case "delete":
            return backend.delete(key), model.pop(key, None) is not None
        case "touch":
            return backend.touch(key), had is not None
        case "upload" | "upload other":
            return upload(backend, model, rng, verb, key, file), None
        case "download":
            digest = backend.download(key, file)
            return (digest, file.read_bytes() if digest else None), (sha256(had), had)
        case "list":
            prefix = rng.choice(("", "b/", "b/e/", "c/"))
            expected_list = sorted((name, len(model[name])) for name in model if name.startswith(prefix))
            return [(info.key, info.size) for info in backend.list(prefix)], expected_list
    return backend.get(key), had


def upload(
    backend: Backend, model: dict[str, bytes], rng: random.Random, verb: str, key: str, file: Path
) -> None:
    value = rng.choice(VALUES)
    file.write_bytes(value)
    known, hashed = rng.choice((None, sha256(value))), rng.choice((None, file.stat()))
    if verb == "upload":
        assert backend.upload(key, file, sha256=known, hashed=hashed) == sha256(value)
        model[key] = value
    else:
        with pytest.raises(DataError):
            backend.upload(key, file, sha256="0" * 64)


def sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()
