"""nanochat's own pretraining script, unmodified, as a process that ``benchmarks/train.py`` watches.

    PEER_PYTHON benchmarks/peer_train.py CHECKOUT VOCABULARY SEED [OPTION of scripts.base_train ...]

Runs in the peer's interpreter and imports nothing of this project. NANOCHAT_BASE_DIR names its data. Beside
the script's own options only the seed is chosen here (the script has 42), and logging to wandb is absent.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import runpy
import sys
import types
from pathlib import Path


def write_tokenizer(vocabulary: Path, folder: Path) -> None:
    """The vocabulary in the two files that nanochat reads."""
    import tiktoken
    import torch

    said = json.loads(vocabulary.read_text())
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(said["tokens"])}
    encoding = tiktoken.Encoding(
        "same", pat_str=said["pattern"], mergeable_ranks=ranks, special_tokens=said["specials"]
    )
    folder.mkdir()
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    sizes = [len(token) for token in ranks] + [0] * len(said["specials"])
    torch.save(torch.tensor(sizes, dtype=torch.int32), folder / "token_bytes.pt")


def main(checkout: str, vocabulary: str, seed: str, *options: str) -> None:
    sys.path.insert(0, checkout)
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))
    import torch

    folder = Path(os.environ["NANOCHAT_BASE_DIR"]) / "tokenizer"
    if not folder.exists():
        write_tokenizer(Path(vocabulary), folder)
    set_seed = torch.manual_seed
    torch.manual_seed = lambda _its_own: set_seed(int(seed))
    sys.argv = ["scripts.base_train", *options]
    runpy.run_module("scripts.base_train", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
