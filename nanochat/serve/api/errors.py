"""Errors as OpenAI's API answers them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from artifacts.errors import NanochatError, ResourceError, UsageError

API_PATHS = ("/tokenize", "/detokenize", "/healthz", "/readyz", "/metrics")
RETRY_S = 5.0  # for what may be over by then
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(HTTPException):
    """A request that is refused. ``param``: the field that is to blame; ``code``: for programs."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(status, message, dict(headers or {}))
        self.code, self.param = code, param


def busy(message: str, retry_s: float, code: str = "rate_limit_exceeded", status: int = 429) -> ApiError:
    """A refusal that may be different in ``retry_s`` seconds."""
    return ApiError(status, message, code=code, headers={"Retry-After": str(max(1, math.ceil(retry_s)))})


def of_ours(error: NanochatError) -> ApiError:
    """An error of the project as one of the API: a wrong value 400, something missing 503, damage 500."""
    if isinstance(error, UsageError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, ResourceError):
        return busy(str(error), RETRY_S, "unavailable", 503)
    return ApiError(500, str(error), code="failed")


def is_api(path: str) -> bool:
    """True if programs ask for this path: its errors are JSON, those of others are pages."""
    return path.startswith("/v1/") or path in API_PATHS  # /tokenizer is a page


def error_body(error: HTTPException) -> dict[str, object]:
    """The JSON of an error."""
    status = error.status_code
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code, param = getattr(error, "code", None), getattr(error, "param", None)
    return {"error": {"message": str(error.detail), "type": kind, "param": param, "code": code}}


def error_response(error: HTTPException) -> JSONResponse:
    """The answer that says so."""
    return JSONResponse(error_body(error), error.status_code, headers=error.headers)
