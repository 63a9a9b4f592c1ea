"""How well a tokenizer compresses different kinds of text, beside GPT-2 and cl100k where at hand."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanochat.data.shards import read_texts
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import capped

SAMPLES = {
    "news": """\
The harbour town voted on Tuesday to reopen its oldest ferry line, eleven years after the last boat
was sold. "People here never stopped asking for it," said the mayor, who expects about 1,400
passengers a day by spring. Critics replied that the $12.5 million plan leaves out the cost of
dredging, and that buses already cover the same route in 35 minutes.
""",
    "code": """\
def moving_average(values: list[float], window: int) -> list[float]:
    if window < 1:
        raise ValueError(f"window = {window}: must be positive")
    total, averages = 0.0, []
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        averages.append(total / min(index + 1, window))
    return averages
""",
    "maths": r"""\
Let $f(x) = x^3 - 3x + 1$. Since $f'(x) = 3x^2 - 3 = 3(x - 1)(x + 1)$, it rises on
$(-\infty, -1)$ and $(1, \infty)$. From $f(-1) = 3 > 0$ and $f(1) = -1 < 0$ follow three real roots;
with $x = 2\cos\theta$ they are $2\cos 40^\circ$, $2\cos 80^\circ$ and $2\cos 160^\circ$.
Check: 1.53209 + 0.34730 - 1.87939 = 0.
""",
    "korean": """\
아침마다 할머니는 시장에서 사 온 배추를 마당에 펼쳐 놓으셨다. 올해는 비가 적어 값이 두 배로 올랐지만,
김장만은 거르지 않겠다고 하신다. 저녁이 되면 이웃들이 모여 함께 고춧가루를 버무리고 이야기를 나눈다.
""",
}
SHARD_SAMPLE_CHARS = 2_000_000

# Files that tiktoken keeps in its cache under the SHA-1 of the address they came from.
_OPENAI = "https://openaipublic.blob.core.windows.net/"
PEERS = {
    "gpt2": ("gpt-2/encodings/main/vocab.bpe", "gpt-2/encodings/main/encoder.json"),
    "cl100k_base": ("encodings/cl100k_base.tiktoken",),
}


@dataclass(frozen=True)
class Compression:
    """One row of the table: what ``tokenizer`` makes of the sample ``text``."""

    tokenizer: str
    text: str
    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "bytes_per_token": round(self.bytes_per_token, 4)}


def sample_texts(shards: Path) -> dict[str, str]:
    """Kind -> text: the samples above, and the beginning of the train and of the val shards."""
    beginnings = {
        split: "\n".join(capped(read_texts(shards, split), SHARD_SAMPLE_CHARS, SHARD_SAMPLE_CHARS))
        for split in ("train", "val")
    }
    return {**SAMPLES, **beginnings}


def compression(name: str, encode: Callable[[str], list[int]], texts: Mapping[str, str]) -> list[Compression]:
    """A row a text, for the tokenizer that ``encode`` belongs to."""
    return [Compression(name, kind, len(text.encode()), len(encode(text))) for kind, text in texts.items()]


def compression_of(tokenizer: Tokenizer, texts: Mapping[str, str]) -> list[Compression]:
    """``compression`` of our own tokenizer."""
    return compression("nanochat", tokenizer.encode, texts)


def compression_of_peers(texts: Mapping[str, str]) -> list[Compression]:
    """``compression`` of those of GPT-2 and cl100k that this machine has; nothing is downloaded."""
    return [row for name, encode in peers().items() for row in compression(name, encode, texts)]


def peers() -> dict[str, Callable[[str], list[int]]]:
    """Name -> ordinary encoding, of those of ``PEERS`` that this machine has."""
    import tiktoken

    return {name: tiktoken.get_encoding(name).encode_ordinary for name in PEERS if is_cached(name)}


def is_cached(peer: str) -> bool:
    """Whether tiktoken can load ``peer`` without the network."""
    default = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    cache = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    keys = [
        hashlib.sha1((_OPENAI + file).encode(), usedforsecurity=False).hexdigest() for file in PEERS[peer]
    ]
    return bool(cache) and all((Path(cache) / key).is_file() for key in keys)
