"""The sides of ``benchmarks/infer.py`` as processes, and our own one, run in this file.

python benchmarks/infer_sides.py WORK FORMAT
"""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loader import ROOT, Side, peer_command

THREADS = [1, 2]
DTYPES = ("float32", "bfloat16")


def start_ours(work: Path, kept_as: str, threads: int) -> Side:
    """Our inference model with its matrices in this format."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    return Side([sys.executable, __file__, str(work), kept_as], environment)


def start_peer(work: Path, dtype: str, threads: int) -> Side | str:
    """nanochat's Engine in one of its precisions, or why there is none."""
    if isinstance(found := peer_command(), str):
        return found
    python, _, checkout = found
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {
        "NANOCHAT_DTYPE": dtype, "OMP_NUM_THREADS": str(threads), "NANOCHAT_BASE_DIR": str(work / "peer"),
    }  # fmt: skip
    return Side([python, str(Path(__file__).with_name("peer_infer.py")), checkout, str(work)], environment)


def write_model(work: Path, shape: dict[str, Any]) -> None:
    """A model with every weight at work, the same for all sides: ``shape.json``, ``weights.safetensors``."""
    import torch
    from safetensors.torch import save_file

    from nanochat.config.derive import Dials, model_shape
    from nanochat.model.gpt import GPT

    config = model_shape(Dials(**shape))
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(1))
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.02)
    save_file(model.state_dict(), work / "weights.safetensors")
    peer = {
        "sequence_len": config.seq_len, "vocab_size": config.vocab_size, "n_layer": config.depth,
        "n_head": config.num_heads, "n_kv_head": config.num_kv_heads, "n_embd": config.width,
        "window_pattern": config.window_pattern,
    }  # fmt: skip
    (work / "shape.json").write_text(json.dumps({"ours": config.model_dump(), "peer": peer}))


def read_bandwidth(rounds: int = 7) -> float:
    """Bytes a second at which this process reads 256 MB of memory: the best of some rounds."""
    import torch

    numbers = torch.ones(64 << 20)
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        torch.dot(numbers, numbers)
        best = max(best, numbers.nbytes / (time.perf_counter() - start))
    return best


class NoSpecials:
    """A tokenizer without text, whose special tokens no answer has, so that each is as long as asked for."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def special(self, _: str) -> int:
        return self.vocab_size

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"." * len(ids)


def answer_at_once(fast: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """All prompts to the scheduler, with a slot for each; when the last answer was whole."""
    from nanochat.engine.request import Event, Finish, Request
    from nanochat.engine.scheduler import Scheduler

    prompts, heard = asked["prompts"], queue.Queue[Event]()
    tokenizer: Any = NoSpecials(fast.config.vocab_size)
    with Scheduler(fast, tokenizer, slots=len(prompts), queue=len(prompts)) as scheduler:
        started = time.perf_counter()
        for prompt in prompts:
            scheduler.submit(Request(tuple(prompt), asked["tokens"], tools=False), heard.put)
        ended = 0
        while ended < len(prompts):
            event = heard.get(timeout=300)
            if isinstance(event, Finish):
                assert event.usage.completion_tokens == asked["tokens"], event
                ended += 1
        return {"ticks": [time.perf_counter() - started]}


def main(work: str, kept_as: str) -> None:
    import torch
    from safetensors.torch import load_file

    from nanochat.config.model import ModelConfig
    from nanochat.engine.inference_model import InferenceModel
    from nanochat.model.gpt import GPT

    model = GPT(ModelConfig(**json.loads((Path(work) / "shape.json").read_text())["ours"]))
    model.load_state_dict(load_file(Path(work) / "weights.safetensors"))
    fast: Any = InferenceModel(model, kept_as)  # type: ignore[arg-type]
    del model

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        """Read a prompt once, copy it to the other rows as nanochat does, and decode greedily."""
        answers, ticks, started = [], [], time.perf_counter()
        for prompt in asked["prompts"]:
            rows, count = asked["rows"], asked["tokens"]
            cache, all_rows = fast.new_cache(rows, len(prompt) + count), torch.arange(rows)
            logits = fast.prefill(torch.tensor([prompt]), cache, all_rows[:1]).expand(rows, -1)
            for row in range(1, rows):
                assert cache.copy(0, row, len(prompt))
            columns: list[int] = []
            while True:
                tokens = logits.argmax(-1)
                columns.append(tokens.tolist()[0])
                ticks.append(time.perf_counter() - started)
                if len(columns) == count:
                    break
                logits = fast.decode(tokens, cache, all_rows)
            answers.append(columns)
        return {"ticks": ticks, "tokens": answers}

    for line in sys.stdin:
        asked = json.loads(line)
        if asked == "about":
            about = {"bytes_a_step": fast.bytes_a_step, "read_bytes_per_second": read_bandwidth()}
            print(json.dumps(about), flush=True)
        elif asked.get("at_once"):
            print(json.dumps(answer_at_once(fast, asked)), flush=True)
        else:
            print(json.dumps(answer(asked)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
