"""nanochat's own Engine, unmodified, as a process that answers to ``benchmarks/infer.py``.

    PEER_PYTHON benchmarks/peer_infer.py CHECKOUT WORK

Runs in the peer's interpreter and imports nothing of this project. WORK holds ``shape.json`` and the weights
under our names, ``weights.safetensors``. NANOCHAT_DTYPE and OMP_NUM_THREADS are the peer's settings.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

RENAMED = (
    ("embedding.", "transformer.wte."), ("head.", "lm_head."), ("blocks.", "transformer.h."),
    (".attention.query", ".attn.c_q"), (".attention.key", ".attn.c_k"), (".attention.value.", ".attn.c_v."),
    (".attention.out", ".attn.c_proj"), (".attention.value_gate", ".attn.ve_gate"),
    (".mlp.up", ".mlp.c_fc"), (".mlp.down", ".mlp.c_proj"), ("residual_scale", "resid_lambdas"),
    ("skip_scale", "x0_lambdas"), ("smear_scale", "smear_lambda"), ("backout_scale", "backout_lambda"),
)  # fmt: skip


class NoSpecials:
    """Special tokens that no answer has, so that every answer is as long as asked for."""

    def encode_special(self, _: str) -> int:
        return -1

    def get_bos_token_id(self) -> int:
        return -1


def peer_name(ours: str) -> str:
    """What nanochat calls a parameter of ours."""
    if ours.startswith("value_embeddings."):
        return ours.replace("value_embeddings.", "value_embeds.")
    for old, new in RENAMED:
        ours = ours.replace(old, new)
    return ours


def open_engine(work: Path) -> Any:
    """nanochat's model with the weights in ``work``, as its ``load_model`` leaves it, and its Engine."""
    import torch
    from nanochat.common import COMPUTE_DTYPE
    from nanochat.gpt import GPT, GPTConfig  # type: ignore[attr-defined]
    from safetensors.torch import load_file

    from nanochat.engine import Engine

    weights = {peer_name(name): value for name, value in load_file(work / "weights.safetensors").items()}
    model = GPT(GPTConfig(**json.loads((work / "shape.json").read_text())["peer"]))
    model.init_weights()  # the rotary tables too
    if torch.float32 != COMPUTE_DTYPE:
        kept_so = ("transformer.wte.", "value_embeds.")
        weights = {
            name: value.to(COMPUTE_DTYPE) if name.startswith(kept_so) else value
            for name, value in weights.items()
        }
    model.load_state_dict(weights, strict=True)
    return Engine(model.eval(), NoSpecials())


def main(checkout: str, work: str) -> None:
    sys.path.insert(0, checkout)
    engine = open_engine(Path(work))
    for line in sys.stdin:
        asked = json.loads(line)
        answers, ticks, started = [], [], time.perf_counter()
        for prompt in asked["prompts"]:
            columns = []
            options = {"num_samples": asked["rows"], "max_tokens": asked["tokens"], "temperature": 0.0}
            for column, _ in engine.generate(prompt, **options):
                columns.append(column[0])
                ticks.append(time.perf_counter() - started)
            answers.append(columns)
        print(json.dumps({"ticks": ticks, "tokens": answers}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
