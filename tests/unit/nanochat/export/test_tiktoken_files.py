"""tiktoken reads the exported ranks and gives our ids."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tiktoken.load import load_tiktoken_bpe

from nanochat.export.tiktoken_files import LOADER, RANKS, write_tiktoken
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

TEXTS = ["What is 37 + 45?", "naïve 🤖\r\n\n '\u017f <|bos|>", "", " " * 50, "\0\ufffd\u3000"]


def test_the_loader_makes_our_encoding(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_tiktoken(tokenizer, tmp_path)
    program = (
        "import json; from nanochat_encoding import load; encoding = load(); texts = json.load(sys.stdin)\n"
        "ids = [encoding.encode_ordinary(text) for text in texts]\n"
        "print(json.dumps([ids, encoding.encode('<|bos|>hi', allowed_special='all'), encoding.n_vocab]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{program}"],
        input=json.dumps(TEXTS), capture_output=True, text=True, check=True,
    )  # fmt: skip
    ids, special, size = json.loads(done.stdout)
    assert ids == [tokenizer.encode(text) for text in TEXTS]
    assert special == [tokenizer.special("bos"), *tokenizer.encode("hi")]
    assert size == tokenizer.vocab_size == len(tokenizer.tokens) + len(SPECIAL_TOKENS)


def test_the_ranks_are_tiktokens_own_format(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_tiktoken(tokenizer, tmp_path)
    ranks = load_tiktoken_bpe(str(tmp_path / RANKS))
    assert ranks == {token: rank for rank, token in enumerate(tokenizer.tokens)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [RANKS, LOADER]
