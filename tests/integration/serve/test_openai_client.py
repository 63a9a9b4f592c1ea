"""OpenAI's own client, as it is, against a real server with a real model."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.integration.serve.conftest import Live

MODEL = "sft/demo@v1"
KEY = "a-key-for-the-client"
A, END = 65, 260  # a letter, and the token that ends an answer
MUCH = {str(A): 100}
GREEDY = {"model": MODEL, "temperature": 0}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def live(real: Callable[..., Live]) -> Live:
    return real(slots=4)


@pytest.mark.criterion("T76")
def test_list(live: Live) -> None:
    client = live.openai()
    assert [model.id for model in client.models.list()] == [MODEL, "base/demo@v1"]
    assert client.models.retrieve("sft/demo").id == MODEL
    with pytest.raises(openai.NotFoundError) as refusal:
        client.models.retrieve("gpt-4")
    assert refusal.value.code == "model_not_found"


@pytest.mark.criterion("T76")
def test_chat_and_usage(live: Live) -> None:
    answer = live.openai().chat.completions.create(
        **GREEDY, messages=said("Hi"), max_tokens=5, logit_bias=MUCH
    )
    assert answer.choices[0].message.content == "AAAAA"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 5)
    assert answer.usage.total_tokens == 11


@pytest.mark.criterion("T76")
def test_stream_and_its_usage(live: Live) -> None:
    stream = live.openai().chat.completions.create(
        **GREEDY, messages=said("Hi"), max_tokens=5, logit_bias=MUCH, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "AAAAA"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 5


@pytest.mark.criterion("T76")
def test_stop(live: Live) -> None:
    client = live.openai()
    for stop in ("AAA", ["x", "AAA"]):
        answer = client.chat.completions.create(
            **GREEDY, messages=said("Hi"), max_tokens=9, logit_bias=MUCH, stop=stop
        )
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].message.content == ""
    ended = client.chat.completions.create(**GREEDY, messages=said("Hi"), logit_bias={str(END): 100})
    assert ended.choices[0].finish_reason == "stop"
    assert ended.choices[0].message.content == ""


@pytest.mark.criterion("T76")
def test_logprobs(live: Live) -> None:
    answer = live.openai().chat.completions.create(
        **GREEDY, messages=said("Hi"), max_tokens=3, logit_bias=MUCH, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert [one.token for one in logprobs.content] == ["A"] * 3
    assert [len(one.top_logprobs) for one in logprobs.content] == [2] * 3
    assert all(one.logprob <= 0 for one in logprobs.content)
    old = live.openai().completions.create(
        model="base/demo", prompt="ab", max_tokens=3, temperature=0, logit_bias=MUCH, logprobs=1
    )
    assert old.choices[0].text == "AAA"
    assert old.choices[0].logprobs
    assert old.choices[0].logprobs.text_offset == [2, 3, 4]


@pytest.mark.criterion("T76")
def test_seed(live: Live) -> None:
    def once(seed: int) -> str | None:
        return live.openai().chat.completions.create(
            model=MODEL, messages=said("Hi"), max_tokens=20, temperature=2, seed=seed
        ).choices[0].message.content  # fmt: skip

    assert once(1) == once(1)
    assert once(1) != once(2)


@pytest.mark.criterion("T76")
def test_400(live: Live) -> None:
    client = live.openai()
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model=MODEL, messages=said("Hi"), temperature=3)
    assert (refusal.value.status_code, refusal.value.param) == (400, "temperature")
    assert refusal.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=MODEL, prompt="x" * 2000, stream=True)


@pytest.mark.criterion("T76")
def test_401(real: Callable[..., Live]) -> None:
    live = real(api_keys=(KEY,))
    with pytest.raises(openai.AuthenticationError) as refusal:
        live.openai("not-the-key").models.list()
    assert refusal.value.code == "invalid_api_key"
    assert live.openai(KEY).models.list().data


@pytest.mark.criterion("T76")
def test_429_and_that_the_client_tries_again(real: Callable[..., Live]) -> None:
    live = real(requests_per_minute=1)
    live.openai().completions.create(model=MODEL, prompt="x", max_tokens=1)
    with pytest.raises(openai.RateLimitError) as refusal:
        live.openai().completions.create(model=MODEL, prompt="x", max_tokens=1)
    assert int(refusal.value.response.headers["retry-after"]) >= 1
    patient = real(requests_per_minute=60)
    for _ in range(60):
        patient.openai().completions.create(model=MODEL, prompt="x", max_tokens=1)
    assert patient.openai(max_retries=5).completions.create(model=MODEL, prompt="x", max_tokens=1)


@pytest.mark.criterion("T76")
def test_timeout_frees_the_slot(echo: Callable[..., Live]) -> None:
    live = echo(step_s=0.05)
    with pytest.raises(openai.APITimeoutError):
        live.openai(timeout=0.3).chat.completions.create(model=MODEL, messages=said("x" * 200))
    live.until_empty()


PIECES = [
    "\N{GRINNING FACE}", "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}", "漢字", "かな", "한국어", "é",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}", "ש", "ا", "plain", " ",
    "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-6}",
    "\n", "\u200b", "𝔘", "e\u0301", "<b>", '"', "\\",
]  # fmt: skip


@pytest.mark.criterion("T75")
def test_a_stream_says_what_the_whole_answer_says(echo: Callable[..., Live]) -> None:
    live, draw = echo(slots=8), random.Random(7)
    texts = ["".join(draw.choices(PIECES, k=draw.randint(1, 12))) + "." for _ in range(200)]
    client, lock = live.openai(), threading.Lock()
    cut: list[str] = []

    def both(text: str) -> tuple[str, str]:
        whole = client.chat.completions.create(**GREEDY, messages=said(text))
        stream = client.chat.completions.create(**GREEDY, messages=said(text), stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        with lock:
            cut.extend(part for part in parts if "\N{REPLACEMENT CHARACTER}" in part)
        return whole.choices[0].message.content or "", "".join(parts)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(both, texts)) == [(text, text) for text in texts]
    assert cut == []
    live.until_empty()
