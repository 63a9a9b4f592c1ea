"""The scheduler: many requests to one model in one thread, and what can go wrong with one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import Tensor

from artifacts.errors import UsageError
from nanochat.engine.generate import Engine
from nanochat.engine.request import Delta, Event, Failed, Finish, Request, Usage
from nanochat.engine.sampling import Sampling
from nanochat.engine.scheduler import Closed, QueueFull, Scheduler
from tests.unit.nanochat.engine.scripted import ByteTokenizer, ScriptedCache, ScriptedModel, script

TOKENIZER = ByteTokenizer()
CALL = script("<python_start>", "37+45", "<python_end>", "37 + 45 = 82.", "<assistant_end>")
HELLO = script("Hello!", "<assistant_end>")
FOREVER = [ord(".")] * 1000
WAIT_S = 60


class Heard:
    """A listener that keeps what it hears; ``react`` may do something about it first."""

    def __init__(self, react: Callable[[Event], None] | None = None) -> None:
        self.events: list[Event] = []
        self.begun, self.ended = threading.Event(), threading.Event()
        self._react = react

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.begun.set()
        if isinstance(event, Finish | Failed):
            self.ended.set()
        if self._react is not None:
            self._react(event)

    @property
    def end(self) -> Event:
        assert self.ended.wait(WAIT_S)
        return self.events[-1]

    @property
    def finish(self) -> Finish:
        end = self.end
        assert isinstance(end, Finish), end
        return end

    def text(self, kind: str = "text") -> str:
        assert self.ended.wait(WAIT_S)
        deltas = [event for event in self.events if isinstance(event, Delta)]
        return "".join(delta.text for delta in deltas if delta.kind == kind)


class Gated(ScriptedModel):
    """Every call of the model needs a permit; ``failing`` calls raise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.permits = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.failing: set[str] = set()
        self.count = 0

    def _pass(self, call: str) -> None:
        self.entered.release()
        assert self.permits.acquire(timeout=WAIT_S)
        self.count += 1
        if call in self.failing:
            raise RuntimeError(f"no {call} today\nsecond line")

    def prefill(self, tokens_NT: Tensor, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        self._pass("prefill")
        return super().prefill(tokens_NT, cache, rows_N)

    def decode(self, tokens_N: Tensor, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        self._pass("decode")
        return super().decode(tokens_N, cache, rows_N)


def model_of(*scripts: list[int], kind: type[ScriptedModel] = ScriptedModel, **options: int) -> ScriptedModel:
    """Answers a prompt that begins with i with the i-th of ``scripts``."""
    return kind(dict(enumerate(scripts, 1)), **options)


def asking(number: int, *, length: int = 3, max_tokens: int = 100, **options: object) -> Request:
    start = TOKENIZER.special("assistant_start")
    return Request((*[number] * (length - 1), start), max_tokens, **options)


def test_answers_are_those_of_the_engine_with_tool_calls_and_all() -> None:
    model = model_of(CALL, HELLO, script("Größe 👍🏽 日本", "<bos>"))
    requests = [asking(1 + i % 3, length=3 + i, max_tokens=7 * i + 3) for i in range(12)]
    heard = [Heard() for _ in requests]
    with Scheduler(model, TOKENIZER, slots=5, chunk=4) as scheduler:
        for request, listener in zip(requests, heard, strict=True):
            scheduler.submit(request, listener)
        finishes = [listener.finish for listener in heard]
    for request, listener, finish in zip(requests, heard, finishes, strict=True):
        (whole,) = Engine(model, TOKENIZER).generate([request.prompt], max_tokens=request.max_tokens)
        for kind in ("text", "python", "python_output"):
            expected = "".join(text for part, text in whole.parts if part == kind)
            assert listener.text(kind) == expected.rstrip("\N{REPLACEMENT CHARACTER}")
        full = len(whole.ids) == request.max_tokens and not whole.ended
        assert finish.reason == ("length" if full else "stop")
        assert finish.usage.completion_tokens == len(whole.ids)


def test_what_a_tool_puts_out_is_read_at_once() -> None:
    model = model_of(CALL)
    with Scheduler(model, TOKENIZER, slots=1) as scheduler:
        scheduler.submit(asking(1), heard := Heard())
        assert heard.text("python_output") == "82"
    assert model.prompts[1:] == [script("<python_end>", "<output_start>", "82", "<output_end>")]


def test_without_tools_nothing_is_evaluated() -> None:
    with Scheduler(model_of(CALL), TOKENIZER, slots=1) as scheduler:
        scheduler.submit(asking(1, tools=False), heard := Heard())
        assert (heard.text("python"), heard.text("python_output")) == ("37+45", "")


def test_a_stop_string_ends_an_answer_before_itself() -> None:
    model = model_of(script("One, two, three", "<assistant_end>"))
    with Scheduler(model, TOKENIZER) as scheduler:
        scheduler.submit(asking(1, stop=("three", ", tw")), heard := Heard())
        assert heard.text() == "One"
        assert heard.finish.reason == "stop"
        assert heard.finish.usage == Usage(3, 7)


def test_logprobs_are_the_models_and_come_with_the_text() -> None:
    with Scheduler(model_of(HELLO), TOKENIZER) as scheduler:
        scheduler.submit(asking(1, logprobs=2), heard := Heard())
        assert heard.text() == "Hello!"
    entries = [entry for event in heard.events if isinstance(event, Delta) for entry in event.logprobs]
    assert [entry.bytes for entry in entries] == [b"H", b"e", b"l", b"l", b"o", b"!"]
    for entry in entries:
        assert entry.logprob == pytest.approx(0, abs=1e-6)
        assert entry.top[0] == (entry.token, entry.bytes, entry.logprob)
        assert entry.top[1][2] == pytest.approx(-50)


def test_a_bias_and_a_penalty_change_what_is_said() -> None:
    with Scheduler(model_of(script("aab", "<assistant_end>")), TOKENIZER) as scheduler:
        scheduler.submit(asking(1, max_tokens=2, logit_bias={ord("z"): 100.0}), biased := Heard())
        assert biased.text() == "zz"
        penalty = Sampling(repetition_penalty=60.0)
        scheduler.submit(
            asking(1, max_tokens=3, sampling=penalty, logit_bias={ord("x"): 1.0}), penalised := Heard()
        )
        assert penalised.text() == "axx"  # a once, then 50 / 60 is less than 1; x stays above 0


def test_seeds_and_settings_differ_by_row_and_repeat() -> None:
    hot = Sampling(40.0)
    requests = [asking(1, max_tokens=20, seed=i, sampling=hot) for i in range(6)]
    requests += [asking(1, max_tokens=20), asking(1, max_tokens=20, sampling=replace(hot, top_k=1))]

    def answers(slots: int) -> list[str]:
        with Scheduler(model_of(FOREVER), TOKENIZER, slots=slots) as scheduler:
            heard = [Heard() for _ in requests]
            for request, listener in zip(requests, heard, strict=True):
                scheduler.submit(request, listener)
            return [listener.text() for listener in heard]

    together = answers(8)
    assert together == answers(1)
    assert len(set(together)) == 7
    assert together[6] == together[7] == "." * 20


def test_the_next_turn_reads_only_what_is_new() -> None:
    model = model_of(HELLO)
    first = (*[1] * 20, TOKENIZER.special("assistant_start"))
    second = (*first, *HELLO, *[1] * 9, TOKENIZER.special("assistant_start"))
    with Scheduler(model, TOKENIZER, slots=2) as scheduler:
        scheduler.submit(Request(first, 50), one := Heard())
        assert one.finish.usage.cached_tokens == 0
        scheduler.submit(Request(second, 50), two := Heard())
        assert two.text() == "Hello!"
        assert two.finish.usage == Usage(len(second), 7, cached_tokens=len(first) + 6)
        assert model.prompts[-1] == list(second[len(first) + 6 :])
        scheduler.submit(Request(second, 50), again := Heard())  # all but the last is known
        assert again.text() == "Hello!"
        assert again.finish.usage.cached_tokens == len(second) - 1
        stats = scheduler.stats()
    assert (stats.prompt_tokens, stats.cached_tokens) == (
        len(first) + 2 * len(second), len(first) + 6 + len(second) - 1
    )  # fmt: skip


def test_a_shared_beginning_is_copied_from_a_running_row_and_a_long_row_is_kept() -> None:
    shared = [1] * 30
    one, two = ((*shared, *[letter] * 60, TOKENIZER.special("assistant_start")) for letter in b"xy")
    model = model_of(FOREVER, kind=Gated)
    with Scheduler(model, TOKENIZER, slots=3) as scheduler:
        generation = scheduler.submit(Request(one, 500), running := Heard())
        model.permits.release()
        assert running.begun.wait(WAIT_S)
        scheduler.submit(Request(two, 2), other := Heard())
        model.permits.release(1000)
        assert other.finish.usage.cached_tokens == 30
        generation.cancel()
        assert running.finish.reason == "cancelled"
        scheduler.submit(Request((*shared, 5, 5), 1), third := Heard())
        assert third.finish.usage.cached_tokens == 30
        scheduler.submit(Request((*one[:-1], 5), 1), fourth := Heard())  # its row was not given away
        assert fourth.finish.usage.cached_tokens == len(one) - 1


def test_a_cancelled_row_takes_no_further_step() -> None:
    model = model_of(FOREVER)
    with Scheduler(model, TOKENIZER, slots=2) as scheduler:
        generations = []

        def react(event: Event) -> None:
            if len(cancelled.events) == 3:
                generations[0].cancel()

        cancelled, other = Heard(react), Heard()
        ready = threading.Event()
        scheduler.submit(asking(1, max_tokens=50), Heard(lambda event: ready.wait(WAIT_S)))
        generations.append(scheduler.submit(asking(1, max_tokens=50), cancelled))
        ready.set()
        assert cancelled.finish.reason == "cancelled"
        assert cancelled.finish.usage.completion_tokens == 3
        scheduler.submit(asking(1, max_tokens=5), other)
        assert other.finish.reason == "length"
        generations[0].cancel()  # too late, and harmless
    assert [type(event) for event in cancelled.events] == [Delta] * 3 + [Finish]


def test_a_long_prompt_is_cancelled_between_chunks_and_does_not_stall_the_others() -> None:
    model = model_of(FOREVER, kind=Gated)
    with Scheduler(model, TOKENIZER, slots=2, chunk=10) as scheduler:
        scheduler.submit(asking(1, max_tokens=500), short := Heard())
        model.permits.release()
        assert short.begun.wait(WAIT_S)
        long = scheduler.submit(asking(1, length=400), cancelled := Heard())
        model.permits.release(9)
        for _ in range(11):
            assert model.entered.acquire(timeout=WAIT_S)
        sizes = [len(tokens) for tokens in model.prompts]
        assert set(sizes[1:]) == {10}  # chunks
        assert abs(len(model.calls) - len(sizes[1:])) <= 2  # a step of decoding after each
        long.cancel()
        model.permits.release(3)
        assert cancelled.finish.reason == "cancelled"
        assert len(model.prompts) <= len(sizes) + 2
        model.permits.release(1000)
        assert short.finish.reason == "length"


def test_a_request_that_waits_can_be_cancelled_and_the_queue_has_a_limit() -> None:
    model = model_of(FOREVER, kind=Gated)
    with Scheduler(model, TOKENIZER, slots=1, queue=2) as scheduler:
        scheduler.submit(asking(1, max_tokens=3), first := Heard())
        assert model.entered.acquire(timeout=WAIT_S)
        waiting = scheduler.submit(asking(1), cancelled := Heard())
        scheduler.submit(asking(1, max_tokens=1), last := Heard())
        assert (scheduler.stats().running, scheduler.stats().waiting) == (1, 2)
        with pytest.raises(QueueFull, match="2 requests wait already") as full:
            scheduler.submit(asking(1), Heard())
        assert full.value.retry_after_s >= 1
        waiting.cancel()
        model.permits.release(2)  # to the end of the step
        assert cancelled.finish.usage == Usage(3, 0)
        assert not first.ended.is_set()
        model.permits.release(100)
        assert (first.finish.reason, last.finish.reason) == ("length", "length")
        assert (scheduler.stats().running, scheduler.stats().waiting) == (0, 0)


def test_a_deadline_ends_an_answer_where_it_is_and_a_request_that_waits() -> None:
    model = model_of(FOREVER, kind=Gated)
    with Scheduler(model, TOKENIZER, slots=1) as scheduler:
        scheduler.submit(asking(1, deadline_s=0.2), running := Heard())
        scheduler.submit(asking(1, deadline_s=0.0), waiting := Heard())
        model.permits.release(1)
        assert waiting.finish.reason == "deadline"
        assert running.begun.wait(WAIT_S)
        threading.Event().wait(0.25)
        model.permits.release(100)
        finish = running.finish
        assert finish.reason == "deadline"
        assert 1 <= finish.usage.completion_tokens <= 3
        assert 0 <= finish.waited_s <= finish.first_token_s <= finish.total_s
        assert finish.total_s >= 0.2


@pytest.mark.parametrize("call", ["prefill", "decode"])
def test_an_error_of_the_model_fails_its_requests_and_the_next_are_answered(call: str) -> None:
    model = model_of(HELLO, kind=Gated)
    with Scheduler(model, TOKENIZER, slots=2) as scheduler:
        model.failing = {call}
        model.permits.release(1000)
        scheduler.submit(asking(1, length=30), failed := Heard())
        assert failed.end == Failed(f"the engine failed: RuntimeError: no {call} today")
        model.failing = set()
        scheduler.submit(asking(1, length=30), fine := Heard())
        assert fine.text() == "Hello!"
        assert fine.finish.usage.cached_tokens == 0  # what the failed row held is not trusted


def test_a_model_that_gives_no_numbers_fails_that_row_alone() -> None:
    class Broken(ScriptedModel):
        def _logits(self, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
            logits = super()._logits(cache, rows_N)
            for i, row in enumerate(rows_N.tolist()):
                if cache.tokens[row][0] == 2 and len(cache.tokens[row]) > 5:
                    logits[i] = float("nan")
            return logits

    with Scheduler(model_of(FOREVER, FOREVER, kind=Broken), TOKENIZER) as scheduler:
        heard = [Heard() for _ in range(3)]
        for number, listener in zip((1, 2, 1), heard, strict=True):
            scheduler.submit(asking(number, max_tokens=9, sampling=Sampling(0.1)), listener)
        assert isinstance(heard[1].end, Failed)
        assert [heard[0].text(), heard[2].text()] == ["." * 9] * 2


@pytest.mark.parametrize("kind", [Delta, Finish])
def test_a_listener_that_raises_ends_its_own_request_only(kind: type) -> None:
    def react(event: Event) -> None:
        if isinstance(event, kind):
            raise ValueError("oops")

    with Scheduler(model_of(FOREVER), TOKENIZER, slots=2) as scheduler:
        bad, good = Heard(react), Heard()
        scheduler.submit(asking(1, max_tokens=20), bad)
        scheduler.submit(asking(1, max_tokens=20), good)
        assert good.text() == "." * 20
        assert bad.ended.wait(WAIT_S)
        assert isinstance(bad.events[-1], Failed if kind is Delta else Finish)
        scheduler.submit(asking(1, max_tokens=2), after := Heard())
        assert after.finish.reason == "length"
        assert scheduler.stats().running == 0


def test_closing_lets_requests_end_and_takes_no_more() -> None:
    scheduler = Scheduler(model_of(FOREVER), TOKENIZER, slots=1)
    heard = [Heard() for _ in range(4)]
    for listener in heard:
        scheduler.submit(asking(1, max_tokens=20), listener)
    scheduler.close(drain_s=WAIT_S)
    assert [listener.finish.reason for listener in heard] == ["length"] * 4
    with pytest.raises(Closed, match="being closed"):
        scheduler.submit(asking(1), Heard())
    scheduler.close()


def test_closing_without_time_cancels_all() -> None:
    model = model_of(FOREVER, kind=Gated)
    scheduler = Scheduler(model, TOKENIZER, slots=1)
    heard = [Heard() for _ in range(3)]
    for listener in heard:
        scheduler.submit(asking(1), listener)
    assert model.entered.acquire(timeout=WAIT_S)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    model.permits.release(2)
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert [listener.finish.reason for listener in heard] == ["cancelled"] * 3


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (Request((), 1), "a prompt of 0 tokens"),
        (Request((1,) * 50, 1), "a prompt of 50 tokens"),
        (Request((1, 265), 1), "the prompt has the token 265"),
        (Request((1, -1), 1), "the prompt has the token -1"),
        (Request((1,), 0), "an answer of 0 tokens"),
        (Request((1,), 1, logit_bias={999: 1.0}), "logit_bias has the token 999"),
        (Request((1,), 1, stop=("a", "")), "an empty stop string"),
    ],
)
def test_what_cannot_be_answered_is_refused_at_once(request_: Request, what: str) -> None:
    with (
        Scheduler(model_of(HELLO, seq_len=50), TOKENIZER) as scheduler,
        pytest.raises(UsageError, match=what),
    ):
        scheduler.submit(request_, Heard())


def test_an_answer_ends_where_the_context_does() -> None:
    with Scheduler(model_of(FOREVER, seq_len=50), TOKENIZER) as scheduler:
        scheduler.submit(asking(1, length=45), heard := Heard())
        assert heard.finish.usage == Usage(45, 5)
        assert heard.finish.reason == "length"
