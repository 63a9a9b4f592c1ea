"""Bytes that training takes on one GPU, part by part, computed from shape and batch alone.

Counted from what autograd keeps of ``gpt.py``, ``attention.py``, ``fused.py`` and ``loss.py`` when they run
as written, with a kernel for attention that keeps its inputs, its output and one number a row and head.
Tests hold it to the saved tensors and the peak of real steps on the CPU, with such a kernel there too. Not
measured: a GPU's allocator, which loses some percent to fragments, the CUDA context (0.5 to 1 GB), and
torch.compile, which keeps less.

Letters: C width, K key-value width, b bytes of a number in the compute type. Sums a token and layer are in
numbers of b bytes unless they say bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from nanochat.config.model import ModelConfig
from nanochat.model.cost import VALUE_GATE_CHANNELS, gated_layers, parameters

FULL = 4  # bytes of weights, gradients, optimizer state
LOSS_BLOCK_TOKENS, LOSS_PIECE_WORDS = 512, 8192  # of a GPU, as in loss.py, which loads torch
MUON_COPIES = 9  # of the largest stack of matrices, while it is updated in fp32


@dataclass(frozen=True)
class Batch:
    """How a GPU trains. ``rows`` of one pass, ``passes`` of one step; ``ranks`` share the optimizer state."""

    rows: int
    passes: int = 2
    ranks: int = 1
    number_bytes: int = 2
    checkpointing: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes by part. ``layer``: one computed again where activations are checkpointed, with its gradients."""

    weights: int
    gradients: int
    muon_momentum: int
    muon_variance: int
    adamw_moments: int
    casts: int
    activations: int
    loss: int
    layer: int
    update: int
    accumulates: bool

    @property
    def kept(self) -> int:
        """What stays from step to step."""
        return self.weights + self.muon_momentum + self.muon_variance + self.adamw_moments

    @property
    def peak(self) -> int:
        """The most that is there at once: in the loss, in a layer computed again, or while Muon works.

        In a step's only pass there are no gradients yet when the most else is there.
        """
        passing = self.casts + self.activations + max(self.loss, self.layer)
        if self.accumulates:
            passing += self.gradients
        return self.kept + max(passing, self.gradients + self.update)

    def parts(self) -> dict[str, int]:
        """Name -> bytes of every part, in order."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name != "accumulates"
        }


def training_memory(model: ModelConfig, batch: Batch) -> Memory:
    """Every part of what one GPU holds."""
    counted = parameters(model)
    muon = counted.matrices + gated_layers(model) * VALUE_GATE_CHANNELS * model.num_kv_heads
    tokens = batch.rows * model.seq_len
    cast = counted.matrices + counted.gates - model.depth * 4 * model.width**2  # MLP's down is cast again
    casts = 0 if batch.number_bytes == FULL else batch.number_bytes * cast
    return Memory(
        weights=FULL * counted.total,
        gradients=FULL * counted.total,
        muon_momentum=_share(FULL * muon, batch),
        muon_variance=_share(FULL * _variances(model), batch),
        adamw_moments=_share(2 * FULL * (counted.total - muon), batch),
        casts=casts // model.depth if batch.checkpointing else casts,
        activations=tokens * _activation_bytes(model, batch),
        loss=_loss_bytes(model, tokens, batch.number_bytes),
        layer=tokens * _again_bytes(model, batch.number_bytes) if batch.checkpointing else 0,
        update=_share(MUON_COPIES * FULL * model.depth * 4 * model.width**2, batch),
        accumulates=batch.passes > 1,
    )


def largest_rows(model: ModelConfig, batch: Batch, most: int, memory_bytes: float) -> int:
    """The largest power of two of rows, at most ``most``, whose peak fits; 0 if one row does not."""
    sizes = [2**power for power in range(most.bit_length())]
    fitting = [
        rows for rows in sizes if training_memory(model, replace(batch, rows=rows)).peak <= memory_bytes
    ]
    return max(fitting, default=0)


def _share(size: int, batch: Batch) -> int:
    return -(-size // batch.ranks)


def _variances(model: ModelConfig) -> int:
    """NorMuon keeps one number for each row of a matrix, or each column if there are more of them."""
    attention, mlp = 4 * model.width, 2 * 4 * model.width
    gates = gated_layers(model) * max(VALUE_GATE_CHANNELS, model.num_kv_heads)
    return model.depth * (attention + mlp) + gates


def layer_bytes(model: ModelConfig, number_bytes: int, *, gated: bool) -> int:
    """What one layer keeps of one token for the backward pass.

    C: input, its norm, queries, rotated queries, attention's output, MLP's input, its norm, 4 of relu. K:
    keys, rotated keys, values. A layer with residual scalars also keeps what it scales.
    """
    width, kv_width = model.width, model.num_kv_heads * model.head_dim
    numbers = (11 + model.residual_scalars) * width + 3 * kv_width
    full = 2 + 2 * model.num_heads + model.num_kv_heads  # two norms; queries and their softmax; keys
    if gated:
        numbers += kv_width + 2 * model.num_kv_heads  # the value embedding, its gate before and after x 3
    return number_bytes * numbers + FULL * full


def _activation_bytes(model: ModelConfig, batch: Batch) -> int:
    """Of one token: all layers, the embedding and its norm, smear's product, the last norm's input."""
    width, size, gated = model.width, batch.number_bytes, gated_layers(model)
    outside = 2 + 2 * model.smear  # embedding, last norm's input; smear: the norm, the token before
    outside += model.backout and model.depth // 2 == model.depth - 1  # else the next layer keeps it
    total = size * outside * width + FULL * 2 + (size * 2 if model.smear else 0)
    if not batch.checkpointing:
        total += gated * layer_bytes(model, size, gated=True)
        return total + (model.depth - gated) * layer_bytes(model, size, gated=False)
    kept = model.depth * (1 + model.residual_scalars) * width
    kept += gated * model.num_kv_heads * model.head_dim
    return total + size * kept


def _again_bytes(model: ModelConfig, size: int) -> int:
    """Of one token: what a layer keeps, and the gradients that are alive in its MLP."""
    return layer_bytes(model, size, gated=model.value_embeddings) + size * 7 * model.width


def _loss_bytes(model: ModelConfig, tokens: int, size: int) -> int:
    """The fused cross-entropy: its input, both gradients, a block of logits, two in fp32.

    Where the compute type is not fp32, also the converted head, and what is added to the head's gradient, of
    a piece of the vocabulary at a time.
    """
    vocab, width = model.vocab_size, model.width
    gradients = size * 2 * tokens * width + FULL * model.padded_vocab_size * width
    head = size * (vocab + min(vocab, LOSS_PIECE_WORDS)) * width if size != FULL else 0
    return gradients + head + (size + 2 * FULL) * min(tokens, LOSS_BLOCK_TOKENS) * vocab
