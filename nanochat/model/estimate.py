"""What pretraining a model takes and costs on given GPUs, before anything is spent. Nothing is built."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from nanochat.config.derive import scaling_parameters
from nanochat.config.pipeline import Resolution
from nanochat.model.cost import (
    dollars,
    flops_per_token,
    kv_cache_bytes,
    parameters,
    training_seconds,
)
from nanochat.model.hardware import GPU
from nanochat.model.memory import Batch, largest_rows, training_memory

SPARE = 0.2  # of a GPU's memory, for what the memory model does not see
RULES_ONLY = "miniseries"  # the preset that sets nothing but a depth
MEMORY_PARTS = {
    "weights": "weights, fp32", "gradients": "gradients, fp32", "muon_momentum": "Muon momentum",
    "muon_variance": "NorMuon variance", "adamw_moments": "AdamW moments",
    "casts": "matrices in the compute type", "activations": "activations", "loss": "loss: logits, gradients",
    "layer": "a layer computed again", "update": "Muon at work (instead of activations and loss)",
}  # fmt: skip


def estimate(resolution: Resolution, gpu: GPU, mfu: float) -> dict[str, Any]:
    """What there is to say of pretraining on ``nproc`` GPUs at a share ``mfu`` of their peak, as JSON."""
    base: Any = resolution.stages["base"]
    model, gpus = base.model, resolution.dials.nproc
    per_token, tokens = flops_per_token(model), base.steps * base.batch_tokens
    seconds = training_seconds(per_token * tokens, gpu.peak_flops, gpus, mfu)
    rows_a_step = base.batch_tokens // (model.seq_len * gpus)
    batch = Batch(
        rows=base.micro_batch, passes=rows_a_step // base.micro_batch,
        ranks=gpus, number_bytes=4 if base.dtype == "float32" else 2,
        checkpointing=base.activation_checkpointing,
    )  # fmt: skip
    memory, usable = training_memory(model, batch), (1 - SPARE) * gpu.memory_bytes
    counted = parameters(model)
    return {
        "model": model.model_dump(), "parameters": {**asdict(counted), "total": counted.total},
        "scaling_parameters": scaling_parameters(model), "flops_per_token": per_token,
        "tokens": tokens, "steps": base.steps, "batch_tokens": base.batch_tokens,
        "flops": per_token * tokens, "gpu": asdict(gpu), "gpus": gpus, "mfu": mfu,
        "tokens_per_second": tokens / seconds, "seconds": seconds,
        "dollars": dollars(seconds, gpus, gpu.dollars_per_hour),
        "micro_batch": batch.rows, "memory": {**memory.parts(), "peak": memory.peak},
        "fits": memory.peak <= usable,
        "largest_micro_batch": {
            "plain": largest_rows(model, replace(batch, checkpointing=False), rows_a_step, usable),
            "checkpointing": largest_rows(model, replace(batch, checkpointing=True), rows_a_step, usable),
        },
        "kv_cache_bytes_per_token": kv_cache_bytes(model, 1, 2, batch.number_bytes)
        - kv_cache_bytes(model, 1, 1, batch.number_bytes),
        "kv_cache_bytes": kv_cache_bytes(model, 1, model.seq_len, batch.number_bytes),
    }  # fmt: skip
