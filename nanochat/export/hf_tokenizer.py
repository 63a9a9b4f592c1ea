"""A tokenizer as Hugging Face's ``tokenizers`` and ``transformers`` read it: the same ids for any text.

But for two pairs of noncharacters, which are in no text: ``BORDER`` is removed, ``BROKEN`` becomes ``<|``.
As they do, and we do not, they take text that spells a special token for that token, unless asked with
``split_special_tokens=True`` (in ``tokenizers``: ``encode_special_tokens = True``).
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from nanochat.export.chat_template import BORDER, BROKEN, CHAT_TEMPLATE, OPENING
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

BOS, END = "<|bos|>", "<|assistant_end|>"


def write_hf_tokenizer(tokenizer: Tokenizer, folder: Path, max_tokens: int | None) -> None:
    """tokenizer.json, and tokenizer_config.json with the template. ``max_tokens``: the model's context."""
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS, "eos_token": END, "pad_token": END, "padding_side": "left",
        "additional_special_tokens": [token for token in SPECIAL_TOKENS if token not in (BOS, END)],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }  # fmt: skip
    if max_tokens is not None:
        about["model_max_length"] = max_tokens
    documents = {"tokenizer.json": tokenizer_document(tokenizer), "tokenizer_config.json": about}
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")


def tokenizer_document(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of tokenizer.json."""
    letters = byte_letters()
    spelled = ["".join(letters[byte] for byte in token) for token in tokenizer.tokens]
    merges = [(spelled[left], spelled[right]) for left, right in merge_pairs(tokenizer.tokens)]
    special = [
        {
            "id": tokenizer.special(token[2:-2]), "content": token, "special": True, "normalized": False,
            "single_word": False, "lstrip": False, "rstrip": False,
        }
        for token in SPECIAL_TOKENS
    ]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Replace", "pattern": {"String": BROKEN}, "content": OPENING},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            _split({"String": BORDER}, "Removed"), _split({"Regex": tokenizer.pattern}, "Isolated"),
            _byte_level(),
        ]},
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: id_ for id_, token in enumerate(spelled)}, "merges": merges,
        },
    }  # fmt: skip


def merge_pairs(tokens: tuple[bytes, ...]) -> list[tuple[int, int]]:
    """The two ids that each token beyond the bytes is joined of.

    An encoder joins the pair of the lowest rank first; so does this with the token's own bytes, but for the
    last step. In a vocabulary that ``Tokenizer`` accepts, two parts are left then.
    """
    ids = {token: id_ for id_, token in enumerate(tokens)}
    pairs = []
    for token in tokens[256:]:
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            joined = [ids.get(a + b, len(tokens)) for a, b in itertools.pairwise(parts)]
            at = joined.index(min(joined))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        left, right = parts
        pairs.append((ids[left], ids[right]))
    return pairs


def byte_letters() -> list[str]:
    """The letter by which a "byte-level" vocabulary writes each byte: itself where it is printable."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _split(pattern: dict[str, str], behavior: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def _byte_level() -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
