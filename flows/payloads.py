"""What the payload of each kind must hold, found out by opening it as the stages that read it would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artifacts.atomic import digest_into
from artifacts.errors import DataError, UsageError
from artifacts.paths import relative_path
from flows.suggest import unknown

Facts = tuple[dict[str, int | float | str], str]
_MADE_BY = {"eval": "nanochat eval REF", "report": "nanochat run PRESET"}


def reader_of(kind: str) -> Callable[[Path], Facts]:
    """What opens a payload of this kind and returns its metrics and the name of the one that matters.

    It raises a NanochatError that names the file which is missing or damaged. UsageError for a kind that
    only means something together with what it was made from.
    """
    if command := _MADE_BY.get(kind):
        raise UsageError(f"an artifact of kind {kind} cannot be adopted", f"{command} makes one")
    if kind not in _READERS:
        raise unknown("kind", kind, _READERS)
    return _READERS[kind]


def _shards(folder: Path) -> Facts:
    from nanochat.data.shards import MANIFEST, read_manifest, read_shard

    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"{MANIFEST} is missing", f"for bare files: --set shards.source=folder --set shards.path={folder}"
        )
    manifest = read_manifest(folder)
    for split, paths in manifest.splits.items():
        if not paths or paths != [shard.path for shard in manifest.shards if shard.split == split]:
            raise DataError(f"{MANIFEST}: its {split} split is not what its shards say")
    if set(manifest.splits) != {"train", "val"}:
        raise DataError(f"{MANIFEST}: it needs the splits train and val")
    for shard in manifest.shards:
        file = folder / relative_path(shard.path)
        texts = [(len(group), sum(len(text.encode()) for text in group)) for group in read_shard(file)]
        found = (sum(rows for rows, _ in texts), sum(size for _, size in texts), digest_into(file))
        if found != (shard.rows, shard.text_bytes, shard.sha256):
            raise DataError(f"{shard.path} is not the file that {MANIFEST} describes")
    documents = sum(shard.rows for shard in manifest.shards)
    size = sum(shard.text_bytes for shard in manifest.shards)
    return {"documents": documents, "text_bytes": size, "shards": len(manifest.shards)}, "text_bytes"


def _tokenizer(folder: Path) -> Facts:
    from nanochat.report.evidence import Evidence
    from nanochat.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    Evidence.read({"tokenizer": folder}, samples=0)  # what the report will want
    return {"vocab_size": tokenizer.vocab_size}, "vocab_size"


def _tokens(folder: Path) -> Facts:
    from nanochat.data.token_shards import TokenShards

    totals = {"rows": 0, "tokens": 0, "text_bytes": 0}
    for path in sorted(folder.glob("shard_*.json")):
        about = _json_object(path)
        for name in totals:
            if type(about.get(name)) is not int or about[name] < 0:
                raise DataError(f"{path.name}: {name} is {about.get(name)!r}, wanted a number")
            totals[name] += about[name]
        if about.get("schema") != 1 or about.get("split") not in ("train", "val"):
            raise DataError(f"{path.name}: not a description of token shards that this program knows")
    for split in ("train", "val"):
        try:
            shards = TokenShards(folder, split)
        except (IndexError, TypeError) as error:  # an array of another shape
            raise DataError(f"the arrays of split {split} are no token shards: {error}") from None
        if shards.read(0).dtype.name not in ("uint16", "uint32"):
            raise DataError(f"the tokens of split {split} are {shards.read(0).dtype.name}, wanted uint16")
    return dict(totals), "tokens"


def _model(kind: str) -> Callable[[Path], Facts]:
    def read(folder: Path) -> Facts:
        from nanochat.engine.model_folder import open_model
        from nanochat.report.evidence import Evidence

        _check_model_files(folder)
        model, tokenizer = open_model(folder)
        Evidence.read({kind: folder}, samples=0)  # what the report will want
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return {"parameters": parameters, "vocab_size": tokenizer.vocab_size}, "parameters"

    return read


def _check_model_files(folder: Path) -> None:
    """Each file by itself, so that the message names it."""
    from pydantic import ValidationError
    from safetensors import SafetensorError, safe_open

    from nanochat.config.model import ModelConfig

    wanted = {"losses.json": ("val_metric", "train", "val"), "meta.json": ("steps", "tokens")}
    for file, names in wanted.items():
        found = _json_object(folder / file)
        for name in names:
            if name not in found:
                raise DataError(f"{file}: {name} is missing")
    try:
        ModelConfig.model_validate(_json_object(folder / "config.json"))
    except ValidationError as error:
        raise DataError(f"config.json: {error.errors()[0]['msg']}") from None
    try:
        with safe_open(folder / "model.safetensors", framework="pt"):
            pass
    except FileNotFoundError:
        raise DataError("model.safetensors is missing") from None
    except SafetensorError as error:
        raise DataError(f"model.safetensors: {error}") from None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path.name} is missing") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path.name} is not JSON") from None
    if not isinstance(value, dict):
        raise DataError(f"{path.name} is not a JSON object")
    return value


_READERS: dict[str, Callable[[Path], Facts]] = {
    "shards": _shards, "tokenizer": _tokenizer, "tokens": _tokens,
    **{kind: _model(kind) for kind in ("base", "mid", "sft", "rl")},
}  # fmt: skip
