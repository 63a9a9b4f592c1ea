"""Forms that change something: read whole, within bounds, and only from our own pages."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from artifacts.errors import UsageError

MOST_BYTES = 16_384


def is_same_origin(request: Request) -> bool:
    """False if a browser says that another site sent this; what sends no such header is no browser."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. UsageError if it comes from another site, is too long, or is no form."""
    if not is_same_origin(request):
        raise UsageError("this form was sent by another site", "open the page itself and try again")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise UsageError(f"a form of more than {MOST_BYTES:,} bytes", "send less")
    try:
        return dict(parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=20))
    except ValueError:
        raise UsageError("the body is no form", "send application/x-www-form-urlencoded") from None
