"""nanochat's own data loader, unmodified, as a process that answers to ``benchmarks/loader.py``.

    PEER_PYTHON benchmarks/peer_loader.py CHECKOUT VOCABULARY BATCH SEQ_LEN

Runs in the peer's interpreter and imports nothing of this project. NANOCHAT_BASE_DIR names its data.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP = 20


def serve(batch_tokens: int, following: Callable[[], object], about: Callable[[], dict[str, Any]]) -> None:
    """A line with a number of seconds is answered with tokens per second, any other with ``about()``."""
    for _ in range(WARM_UP):
        following()
    for line in sys.stdin:
        if line.strip() == "about":
            answer: Any = about()
        else:
            start, batches = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - start) < float(line):
                following()
                batches += 1
            answer = batches * batch_tokens / elapsed
        print(json.dumps(answer), flush=True)


def main(checkout: str, vocabulary: str, batch: int, seq_len: int) -> None:
    sys.path.insert(0, checkout)
    import tiktoken

    from nanochat import dataloader  # type: ignore[attr-defined]
    from nanochat.tokenizer import RustBPETokenizer  # type: ignore[attr-defined]

    said = json.loads(Path(vocabulary).read_text())
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(said["tokens"])}
    encoding = tiktoken.Encoding(
        "same", pat_str=said["pattern"], mergeable_ranks=ranks, special_tokens=said["specials"]
    )
    drawn = 0

    class Counting(RustBPETokenizer):  # type: ignore[misc]
        def encode(self, *args: Any, **more: Any) -> Any:
            nonlocal drawn
            documents = super().encode(*args, **more)
            drawn += sum(map(len, documents))
            return documents

    make = dataloader.tokenizing_distributed_data_loader_with_state_bos_bestfit
    timed = make(RustBPETokenizer(encoding, "<|bos|>"), batch, seq_len, "train", device="cpu")

    def about() -> dict[str, Any]:
        """What is cropped, of a loader of its own: what it drew, less what it holds and what it gave."""
        counted = make(Counting(encoding, "<|bos|>"), batch, seq_len, "train", device="cpu")
        for _ in range(batches := 1000):
            next(counted)
        used = batches * batch * (seq_len + 1)
        left = sum(map(len, counted.gi_frame.f_locals["doc_buffer"]))
        return {"crop_share": round(1 - used / (drawn - left), 4)}

    serve(batch * seq_len, lambda: next(timed), about)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
