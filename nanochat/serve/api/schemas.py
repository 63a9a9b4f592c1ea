"""What may be asked for. Fields that change nothing are ignored; what we cannot do is refused."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from nanochat.serve.api.errors import ApiError

DEFAULT_TOKENS = 512  # of an answer, where the request does not say
MAX_SEED = 2**63 - 1
# However large a body may be; the limits that are settings are checked later, or dropped to.
_MOST_MESSAGES = 10_000
_MOST_IDS = 100_000
_MOST_BIASES = 1024
_LONG_BYTES = 1 << 16  # of a body that would hold up the event loop

Stop = Annotated[str, Field(min_length=1, max_length=256)]
TokenBias = Annotated[float, Field(ge=-100, le=100)]
T = TypeVar("T", bound="Body")


def _is_nothing(value: Any) -> Any:
    if value not in (None, 0, False, [], {}, "auto", "none", {"type": "text"}, ["text"]):
        raise ValueError("this server does not do this; leave it out")
    return value


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_BIASES:  # before each of them is looked at
        raise ValueError(f"{len(value)} tokens; at most {_MOST_BIASES}")
    return value


NotHere = Annotated[Any, AfterValidator(_is_nothing)]


class Body(BaseModel):
    """JSON of exactly the types that are named here: a number in quotes is no number."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)


class Part(Body):
    """A part of a message; only the assistant has others than text."""

    type: Literal["text", "python", "python_output"]
    text: str


class Message(Body):
    """One turn, or the system prompt (also called ``developer``) before the first."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=1000, fail_fast=True)]

    @property
    def chars(self) -> int:
        """Characters of its text."""
        return len(self.content) if isinstance(self.content, str) else sum(len(p.text) for p in self.content)


class StreamOptions(Body):
    """``include_usage``: one chunk more, with the number of tokens."""

    include_usage: bool = False


class Generation(Body):
    """How to go on from a prompt."""

    model: Annotated[str, Field(max_length=500)] = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=200)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4, fail_fast=True)] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED - 1, le=MAX_SEED)] | None = None
    logit_bias: Annotated[dict[str, TokenBias], BeforeValidator(_few)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    frequency_penalty: NotHere = None
    presence_penalty: NotHere = None

    @field_validator("logit_bias")
    @classmethod
    def _ids(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if any(not (key.isascii() and key.isdigit() and len(key) < 10) for key in value or {}):
            raise ValueError("the names are token ids")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(Generation):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=_MOST_MESSAGES, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: NotHere = None
    tool_choice: NotHere = None
    functions: NotHere = None
    function_call: NotHere = None
    response_format: NotHere = None
    modalities: NotHere = None
    audio: NotHere = None
    web_search_options: NotHere = None

    @property
    def wanted_tokens(self) -> int:
        """The longest answer that is wanted."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS


class CompletionRequest(Generation):
    """``POST /v1/completions``: text, or token ids, to go on from."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=1, fail_fast=True)]
        | Annotated[
            list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=_MOST_IDS, fail_fast=True)
        ]
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    suffix: NotHere = None
    echo: NotHere = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None


class TokenizeRequest(Body):
    """``POST /tokenize``."""

    model: Annotated[str, Field(max_length=500)] = ""
    text: str


class DetokenizeRequest(Body):
    """``POST /detokenize``."""

    model: Annotated[str, Field(max_length=500)] = ""
    tokens: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=_MOST_IDS, fail_fast=True)
    ]


async def read(request: Request, schema: type[T]) -> T:
    """The body of a request; 400 for one that is no JSON or does not fit, naming the first field."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # else any page in a browser could ask without leave
        raise ApiError(400, f"the content type is {kind[:80]!r}, not application/json", code="invalid_type")
    body = await request.body()
    if len(body) > _LONG_BYTES:
        return await asyncio.to_thread(_parsed, body, schema)
    return _parsed(body, schema)


def _parsed(body: bytes, schema: type[T]) -> T:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ApiError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = max(found, key=lambda one: len(one["loc"]))  # of several types that a field takes, the nearest
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is no JSON: {first['msg']}"[:300], code="invalid_json")
    place = [part for part in first["loc"] if isinstance(part, int) or _is_field(str(part))]
    param = ".".join(map(str, place))[:200]
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{param or 'the body'}: {first['msg']}"[:500], code=code, param=param or None)


def _is_field(name: str) -> bool:
    """False for the name of a type, which pydantic puts into the place of an error too."""
    return name.isidentifier() and name not in ("str", "int", "float", "list")
