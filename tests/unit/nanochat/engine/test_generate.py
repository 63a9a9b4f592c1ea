"""Generation: tools, masks, stops and batches, with a scripted model and with a tiny random GPT."""

from __future__ import annotations

from random import Random

import pytest
import torch

from artifacts.errors import UsageError
from nanochat.engine.generate import Engine
from nanochat.engine.sampling import Sampling
from nanochat.engine.turn import ToolCall
from nanochat.model.gpt import GPT
from tests.unit.nanochat.engine.scripted import ByteTokenizer, ScriptedModel, script
from tests.unit.nanochat.engine.tiny import tiny_gpt

ASKED = [1, 2, 3]
CALL = script("<python_start>", "37+45", "<python_end>", "37 + 45 = 82.", "<assistant_end>")


def engine_for(*scripts: list[int], seq_len: int = 1000, **options: object) -> Engine:
    model = ScriptedModel({number: ids for number, ids in enumerate(scripts, 1)}, seq_len)
    return Engine(model, ByteTokenizer(), **options)


def test_tool_call_is_evaluated_and_its_output_forced() -> None:
    (completion,) = engine_for(CALL).generate([ASKED], max_tokens=100)
    forced = script("<output_start>", "82", "<output_end>")
    end = CALL.index(ByteTokenizer().special("python_end")) + 1
    assert completion.ids == CALL[:end] + forced + CALL[end:]
    assert completion.mask == [1] * end + [0] * len(forced) + [1] * (len(CALL) - end)
    assert completion.tool_calls == [ToolCall("37+45", "82", ok=True)]
    assert completion.parts == [("python", "37+45"), ("python_output", "82"), ("text", "37 + 45 = 82.")]
    assert completion.text == "37 + 45 = 82."
    assert completion.ended


def test_end_of_turn_is_a_sampled_token_of_the_turn() -> None:
    (completion,) = engine_for(script("Hi", "<assistant_end>")).generate([ASKED], max_tokens=9)
    assert completion.ids[-1] == ByteTokenizer().special("assistant_end")
    assert completion.mask[-1] == 1


def test_failed_call_gives_the_model_an_explicit_error() -> None:
    said = script("<python_start>", "1/0", "<python_end>", "Sorry.", "<assistant_end>")
    (completion,) = engine_for(said).generate([ASKED], max_tokens=100)
    assert completion.tool_calls == [ToolCall("1/0", "error: division by zero", ok=False)]
    assert ("python_output", "error: division by zero") in completion.parts
    assert completion.text == "Sorry."


def test_a_wrong_calculator_shows_its_wrong_result() -> None:
    (completion,) = engine_for(CALL, calculator=lambda expression: "83").generate([ASKED], max_tokens=100)
    assert ("python_output", "83") in completion.parts


def test_two_calls_in_one_turn() -> None:
    said = script(
        "<python_start>", "1+2", "<python_end>", "<python_start>", "3*4", "<python_end>", "<assistant_end>"
    )
    (completion,) = engine_for(said).generate([ASKED], max_tokens=100)
    assert [call.output for call in completion.tool_calls] == ["3", "12"]


@pytest.mark.parametrize("stray", [("<python_end>",), ("<python_start>", "1+1"), ("<output_start>", "82")])
def test_markers_out_of_place_call_nothing(stray: tuple[str, ...]) -> None:
    (completion,) = engine_for(script(*stray, "<assistant_end>")).generate([ASKED], max_tokens=100)
    assert completion.tool_calls == []
    assert completion.text == ""
    assert completion.ended


def test_bos_stops_without_having_ended() -> None:
    (completion,) = engine_for(script("Hi", "<bos>", "more")).generate([ASKED], max_tokens=100)
    assert completion.text == "Hi"
    assert not completion.ended


def test_max_tokens_and_context_bound_a_turn() -> None:
    for engine, max_tokens in ((engine_for([65] * 50), 7), (engine_for([65] * 50, seq_len=10), 100)):
        (completion,) = engine.generate([ASKED], max_tokens=max_tokens)
        assert completion.ids == [65] * 7
        assert not completion.ended


def test_a_prompt_without_room_is_refused() -> None:
    for prompt in ([], [1] * 10):
        with pytest.raises(UsageError, match="cannot be continued"):
            engine_for([65], seq_len=10).generate([prompt], max_tokens=5)


def test_finished_rows_leave_the_batch_and_order_is_kept() -> None:
    engine = engine_for(script("long answer", "<assistant_end>"), script("a", "<assistant_end>"), CALL)
    completions = engine.generate([[1, 1, 1], [2], [3, 3]], max_tokens=100)
    assert [completion.text for completion in completions] == ["long answer", "a", "37 + 45 = 82."]
    rows = [len(call) for call in engine.model.calls]
    assert rows == sorted(rows, reverse=True)
    assert (rows[0], rows[-1]) == (3, 1)


def test_stream_says_what_generate_returns_and_never_half_a_character() -> None:
    said = script("Größe: ", "<python_start>", "2*3", "<python_end>", "6 👍🏽 日本", "<assistant_end>")
    pieces = list(engine_for(said).stream(ASKED, max_tokens=200))
    assert all("\N{REPLACEMENT CHARACTER}" not in piece.text for piece in pieces)
    (completion,) = engine_for(said).generate([ASKED], max_tokens=200)
    for kind in ("text", "python", "python_output"):
        streamed = "".join(piece.text for piece in pieces if piece.kind == kind)
        assert streamed == "".join(text for part, text in completion.parts if part == kind)


@pytest.fixture(scope="module")
def tiny() -> GPT:
    return tiny_gpt(seq_len=64)


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(1.0), Sampling(0.8, top_k=20), Sampling(1.0, top_p=0.9)]
)
def test_a_batch_gives_what_each_row_gives_alone(tiny: GPT, sampling: Sampling) -> None:
    rng = Random(0)
    prompts = [[rng.randrange(256) for _ in range(rng.choice([1, 3, 3, 9]))] for _ in range(12)]
    seeds = [rng.randrange(1000) for _ in prompts]
    engine = Engine(tiny, ByteTokenizer())
    together = engine.generate(prompts, max_tokens=20, sampling=sampling, seeds=seeds)
    waves = engine.generate(prompts, max_tokens=20, sampling=sampling, seeds=seeds, batch_rows=5)
    alone = [
        engine.generate([prompt], max_tokens=20, sampling=sampling, seeds=[seed])[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == waves == alone
    assert len({tuple(completion.ids) for completion in together}) > 6


def test_greedy_generation_is_the_argmax_of_the_whole_forward_pass(tiny: GPT) -> None:
    (completion,) = Engine(tiny, ByteTokenizer()).generate([[5, 6, 7]], max_tokens=15)
    sampled = completion.ids
    logits_BTV = tiny(torch.tensor([[5, 6, 7, *sampled]]))
    expected = logits_BTV.argmax(dim=-1)[0, 2:-1].tolist()
    assert [e for e, m in zip(expected, completion.mask, strict=True) if m] == [
        t for t, m in zip(sampled, completion.mask, strict=True) if m
    ]


def test_the_model_can_still_be_trained_after_generating(tiny: GPT) -> None:
    Engine(tiny, ByteTokenizer()).generate([[5, 6]], max_tokens=3)
    tiny.loss(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])).backward()
    assert tiny.head.weight.grad is not None
