"""The model: shapes, parameter counts of the published tables, causality, cached decoding."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from nanochat.config.derive import Dials, model_shape, scaling_parameters
from nanochat.config.model import ModelConfig
from nanochat.model import attend
from nanochat.model.gpt import GPT, Block
from nanochat.tokenizer.tokenizer import Tokenizer


def shape(**changes: object) -> ModelConfig:
    values = {
        "depth": 4, "width": 64, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 301, "seq_len": 640,
        "window_pattern": "SL",
    }  # fmt: skip
    return ModelConfig(**{**values, **changes})


def noisy(config: ModelConfig, seed: int = 0) -> GPT:
    """A model in which every parameter matters (the real start has zero output projections)."""
    torch.manual_seed(seed)
    model = GPT(config)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


@pytest.mark.parametrize(
    ("depth", "total", "scaling"),
    [(6, 73.5e6, 23.2e6), (12, 286.3e6, 110.1e6), (20, 896.5e6, 435.2e6), (24, 1384e6, 729.8e6)],
)
def test_parameters_equal_the_published_table(depth: int, total: float, scaling: float) -> None:
    config = model_shape(Dials(depth=depth))
    with torch.device("meta"):
        model = GPT(config)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(total, rel=6e-4)
    assert scaling_parameters(config) == pytest.approx(scaling, rel=2e-3)


def test_the_model_of_december_2025_has_exactly_its_published_parameters() -> None:
    config = model_shape(Dials(depth=20, arch="hf", vocab_size=65536))
    with torch.device("meta"):
        assert sum(p.numel() for p in GPT(config).parameters()) == 560_988_160


@pytest.mark.parametrize("switches", [{}, {"smear": False, "backout": False}, {"value_embeddings": False}])
def test_later_tokens_never_change_earlier_logits(switches: dict[str, bool]) -> None:
    model = noisy(shape(**switches))
    tokens = torch.randint(0, 301, (2, 20))
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 7) % 301
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_short_window_hides_what_lies_further_back() -> None:
    config = shape(depth=2, window_pattern="S", seq_len=640, smear=False)
    assert [config.window(layer) for layer in range(2)] == [256, 640]
    model = noisy(shape(depth=2, window_pattern="SS", seq_len=64))
    assert [model.config.window(layer) for layer in range(2)] == [64, 64]


@pytest.mark.criterion("T33")
def test_cached_decoding_equals_the_full_forward_on_a_ragged_batch() -> None:
    model = noisy(shape(seq_len=512, window_pattern="S"))
    lengths, rows = [5, 130, 9], [2, 0, 3]
    tokens = torch.randint(0, 301, (3, 256))
    cache = model.new_cache(rows=5, max_tokens=256)
    with torch.no_grad():
        full = model(tokens)
        last = {}
        for i, length in enumerate(lengths):
            logits = model.prefill(tokens[i : i + 1, :length], cache, torch.tensor([rows[i]]))
            last[i] = (length, logits[0])
        for _ in range(100):
            for i, (length, logits) in last.items():
                assert (logits - full[i, length - 1]).abs().max() <= 1e-4
                assert logits.argmax() == full[i, length - 1].argmax()
            fed = torch.tensor([tokens[i, last[i][0]] for i in range(3)])
            logits = model.decode(fed, cache, torch.tensor(rows))
            last = {i: (last[i][0] + 1, logits[i]) for i in range(3)}


def packed(config: ModelConfig, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    """Documents of these lengths, BOS included, which together are a row."""
    torch.manual_seed(1)
    texts = [torch.randint(0, config.bos, (length - 1,)) for length in lengths]
    return [torch.cat((torch.tensor([config.bos]), text)) for text in texts]


@pytest.mark.parametrize("in_chunks", [True, False])
@pytest.mark.parametrize("pattern", ["L", "SL"])
def test_with_the_document_mask_a_row_is_its_documents_in_rows_of_their_own(
    in_chunks: bool, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "LONGEST_IN_CHUNKS", 1024 if in_chunks else 0)
    model = noisy(shape(document_mask=True, window_pattern=pattern))
    documents = packed(model.config, (150, 1, 2, 170, 90))
    with torch.no_grad():
        logits = model(torch.cat(documents)[None])[0].split([len(ids) for ids in documents])
        for mine, ids in zip(logits, documents, strict=True):
            assert (mine - model(ids[None])[0]).abs().max() <= 1e-4


@pytest.mark.parametrize("in_chunks", [True, False])
@pytest.mark.parametrize("document_mask", [True, False])
def test_only_the_document_mask_keeps_a_document_from_the_others_of_its_row(
    in_chunks: bool, document_mask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "LONGEST_IN_CHUNKS", 1024 if in_chunks else 0)
    model = noisy(shape(document_mask=document_mask))
    first, middle, last = packed(model.config, (140, 60, 100))
    changed = torch.cat((middle[:1], (middle[1:] + 1) % model.config.bos))
    with torch.no_grad():
        before, after = (model(torch.cat((first, ids, last))[None])[0] for ids in (middle, changed))
    assert torch.equal(before[:140], after[:140])
    assert not torch.equal(before[140:200], after[140:200])
    assert torch.equal(before[200:], after[200:]) == document_mask


def test_with_the_document_mask_a_conversation_is_decoded_as_it_was_trained() -> None:
    model = noisy(shape(document_mask=True))
    (ids,) = packed(model.config, (60,))
    cache, row = model.new_cache(rows=1, max_tokens=64), torch.tensor([0])
    with torch.no_grad():
        full = model(ids[None])[0]
        logits = [model.prefill(ids[None, :40], cache, row)]
        logits += [model.decode(ids[i, None], cache, row) for i in range(40, 60)]
    assert (torch.cat(logits) - full[39:]).abs().max() <= 1e-4


def test_the_shape_knows_the_tokenizers_bos() -> None:
    tokenizer = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
    assert shape(vocab_size=tokenizer.vocab_size).bos == tokenizer.special("bos")
    with pytest.raises(ValidationError, match="needs BOS"):
        shape(vocab_size=9, document_mask=True)


def test_rows_of_the_cache_can_be_used_again() -> None:
    model = noisy(shape())
    first, second = torch.randint(0, 301, (1, 30)), torch.randint(0, 301, (1, 12))
    cache, row = model.new_cache(rows=1, max_tokens=64), torch.tensor([0])
    with torch.no_grad():
        model.prefill(first, cache, row)
        cache.reset(row)
        again = model.prefill(second, cache, row)
        assert torch.allclose(again, model(second)[:, -1], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_layers_computed_again_change_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = noisy(shape()), torch.randint(0, 301, (2, 20))
    model.compute_dtype = dtype
    calls, plain = [], Block.forward
    monkeypatch.setattr(Block, "forward", lambda *given: calls.append(1) or plain(*given))

    def outcome(checkpointing: bool) -> list[torch.Tensor]:
        model.checkpointing = checkpointing
        model.zero_grad()
        loss = model.loss(tokens, tokens)
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    kept = outcome(False)
    assert len(calls) == model.config.depth
    again = outcome(True)
    assert len(calls) == 3 * model.config.depth
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="num_heads 5"):
        shape(num_heads=5)
