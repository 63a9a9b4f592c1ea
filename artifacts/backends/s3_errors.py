"""What went wrong with a bucket, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from artifacts.errors import ResourceError

_BY_CODE = {
    "NoSuchBucket": ("there is no such bucket", "create it, or check --store"),
    "InvalidBucketName": ("that is no name of a bucket", "3 to 63 of a-z 0-9 . and -"),
    "InvalidAccessKeyId": ("the access key is unknown", "check AWS_ACCESS_KEY_ID or AWS_PROFILE"),
    "SignatureDoesNotMatch": ("the secret key is wrong", "check AWS_SECRET_ACCESS_KEY or AWS_PROFILE"),
    "ExpiredToken": ("the credentials expired", "log in again"),
    "AccessDenied": ("access denied", "ask for s3:GetObject, PutObject, DeleteObject and ListBucket"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set it"),
    "SlowDown": ("the server asks to slow down", "run the command again later"),
}
_BY_STATUS = {403: _BY_CODE["AccessDenied"], 401: _BY_CODE["AccessDenied"]}


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status of a botocore ClientError; None for everything else."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


@contextmanager
def s3_errors(url: str, *absent: int) -> Iterator[None]:
    """Turn what botocore raises into a one-line ResourceError; an answer with an ``absent`` status passes."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if status_of(error) in absent and _code(error) != "NoSuchBucket":
            raise
        reason, hint = _explain(error)
        raise ResourceError(f"{url}: {reason}", hint) from error
    except BotoCoreError as error:
        reason, hint = _connection(error)
        raise ResourceError(f"{url}: {reason}", hint) from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _explain(error: Any) -> tuple[str, str]:
    code, status = _code(error), status_of(error)
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    said = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:120]
    return f"the server answered {status} {code} {said}".rstrip(), "run the command again later"


def _connection(error: BaseException) -> tuple[str, str]:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return "no AWS credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if kind in ("NoRegionError",):
        return "no AWS region", "set AWS_REGION"
    if kind == "ProfileNotFound":
        return " ".join(str(error).split()), "check AWS_PROFILE"
    if kind in (
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ReadTimeoutError",
    ):
        return " ".join(str(error).split())[:200], "is the server up? AWS_ENDPOINT_URL names it"
    return f"{kind}: {' '.join(str(error).split())[:160]}", "run the command again"
