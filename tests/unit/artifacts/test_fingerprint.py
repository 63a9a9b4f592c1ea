from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts import fingerprint
from artifacts.errors import DataError, UsageError

KEYS = st.text(st.characters(exclude_characters="."))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
CONFIG = st.dictionaries(st.text("ab", min_size=1, max_size=2), JSON, max_size=3)


@given(JSON)
def test_canonical_text_means_the_same_value(value: Any) -> None:
    text = fingerprint.canonical_json(value)
    assert json.loads(text) == value
    assert fingerprint.canonical_json(json.loads(text)) == text
    assert text.isascii()


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=6))
def test_order_of_keys_is_no_identity(value: dict[str, Any]) -> None:
    shuffled = dict(reversed(value.items()))
    assert fingerprint.sha256_json(value) == fingerprint.sha256_json(shuffled)


@pytest.mark.criterion("T34")
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, {1, 2}, b"x", print, object(), Path("x"), {1: 2}, {None: 1},
     [{"a": {"b": math.nan}}], np.float64(1.0), np.int64(1), OrderedDict(a=1), complex(1),
     type("Text", (str,), {})("x")],
)  # fmt: skip
def test_what_has_no_stable_identity_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="value"):
        fingerprint.canonical_json(value)


@pytest.mark.criterion("T34")
def test_every_process_computes_the_same_fingerprint(repository: Path) -> None:
    program = """
import random
from artifacts.fingerprint import recipe, sha256_json
names = ["depth", "rope", "vocab", "ä", "lr"]
random.shuffle(names)
config = {name: {"b": [1, 0.1, None], "a": name} for name in names}
same = {name: name for name in set(names)}
print(sha256_json(recipe("base", 1, config, inputs=same, modules=same)))
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=repository, env={"PYTHONHASHSEED": str(seed)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in range(10)
    }  # fmt: skip
    assert len(digests) == 1


def test_a_difference_is_named_by_field_input_and_module() -> None:
    old = fingerprint.recipe(
        "base", 1, {"model": {"depth": 4, "rope": True}, "lr": 0.1}, inputs={"tokens": "aa"},
        modules={"nanochat.model.gpt": "11", "nanochat.gone": "22"}, extra={"rustbpe": "r1"},
    )  # fmt: skip
    new = fingerprint.recipe(
        "base", 2, {"model": {"depth": 6, "rope": True}, "lr": 0.1}, inputs={"tokens": "bb"},
        modules={"nanochat.model.gpt": "33"}, extra={"rustbpe": "r2"},
    )  # fmt: skip
    assert fingerprint.explain(old, new) == [
        {"what": "field", "name": "extra.rustbpe", "old": "r1", "new": "r2"},
        {"what": "field", "name": "model.depth", "old": 4, "new": 6},
        {"what": "field", "name": "version", "old": 1, "new": 2},
        {"what": "input", "name": "tokens", "old": "aa", "new": "bb"},
        {"what": "module", "name": "nanochat.gone", "old": "22", "new": None},
        {"what": "module", "name": "nanochat.model.gpt", "old": "11", "new": "33"},
    ]


@settings(max_examples=50)
@given(CONFIG, CONFIG)
def test_a_difference_is_explained_if_and_only_if_there_is_one(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    def payload(config: dict[str, Any]) -> dict[str, Any]:
        return {"stage": "s", "version": 1, "config": config, "inputs": {}, "modules": {}, "extra": {}}

    differ = fingerprint.sha256_json(old) != fingerprint.sha256_json(new)
    assert bool(fingerprint.explain(payload(old), payload(new))) == differ


def test_secrets_are_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(url: str) -> str:
        return fingerprint.sha256_json(fingerprint.recipe("shards", 1, {"url": url}, inputs={}, modules={}))

    assert digest("https://me:one@host/data") == digest("https://me:two@host/data?signature=abc")
    monkeypatch.setenv("HUB_TOKEN", "canary-0123456789")
    with pytest.raises(UsageError, match="secret of the environment"):
        digest("canary-0123456789")


def test_rust_digest_covers_sources_and_lock(tmp_path: Path) -> None:
    (tmp_path / "src" / "bpe").mkdir(parents=True)
    (tmp_path / "src" / "lib.rs").write_text("fn a() {}")
    (tmp_path / "src" / "bpe" / "train.rs").write_text("fn b() {}")
    with pytest.raises(DataError, match="not a Rust crate"):
        fingerprint.rust_digest(tmp_path)
    (tmp_path / "Cargo.lock").write_text("1")
    digests = [fingerprint.rust_digest(tmp_path)]
    for path in ("src/bpe/train.rs", "Cargo.lock", "src/new.rs"):
        (tmp_path / path).write_text("changed")
        digests.append(fingerprint.rust_digest(tmp_path))
    (tmp_path / "README.md").write_text("no identity")
    assert fingerprint.rust_digest(tmp_path) == digests[-1]
    assert len(set(digests)) == 4
