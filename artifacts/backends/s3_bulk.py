"""Many small answers of a bucket: GETs and LISTs signed by botocore, sent and read without the rest of boto3.

A store of ten thousand artifacts is tens of thousands of small objects, and most of the time that boto3 takes
for one is its own (docs/log.md). Whatever is not a plain answer is asked for again through boto3, which
retries and explains.
"""

from __future__ import annotations

import os
import re
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree

AT_ONCE = 8  # requests under way
_TIMEOUTS_S = (5, 30)  # to connect, to read


class Page(NamedTuple):
    """A part of a listing: (key, size, time of change, ETag), the server's time, where the next starts."""

    objects: list[tuple[str, int, datetime, str]]
    now: datetime
    token: str | None


class BulkReader:
    """Reads one bucket. Safe to share between threads."""

    def __init__(self, session: Any, client: Any, bucket: str) -> None:
        signed = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
        self._base = signed.partition("?")[0].removesuffix("key")
        self._credentials, self._region = session.get_credentials(), client.meta.region_name
        self._local = threading.local()

    def get(self, key: str) -> tuple[bool, bytes | None]:
        """Whether the answer was a plain one, and the object; None if it is absent."""
        answer = self._send(quote(key, safe="/~"), {})
        if answer is None or answer.status_code == 200:
            return answer is not None, answer and answer.content
        return b"<Code>NoSuchKey</Code>" in answer.content, None

    def page(self, prefix: str, token: str | None) -> Page | None:
        """The objects under ``prefix``, from ``token`` on, as far as one answer goes."""
        wanted = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        answer = self._send("", wanted | ({"continuation-token": token} if token else {}))
        if answer is None or answer.status_code != 200:
            return None
        try:
            return _page(answer)
        except (ElementTree.ParseError, KeyError, TypeError, ValueError):
            return None

    def _send(self, path: str, query: dict[str, str]) -> Any:
        """The answer, if it is a whole one with status 200 or 404."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, HTTPClientError

        request = AWSRequest("GET", self._base + path, params=query)
        try:
            S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
            answer = self._connection.send(request.prepare())
            whole = answer.headers.get("Content-Length") in (None, str(len(answer.content)))
        except (BotoCoreError, HTTPClientError):
            return None
        return answer if answer.status_code in (200, 404) and whole else None

    @property
    def _connection(self) -> Any:
        """This thread's own."""
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        if not hasattr(self._local, "connection"):
            self._local.connection = URLLib3Session(
                verify=os.environ.get("AWS_CA_BUNDLE") or True,
                proxies=get_environ_proxies(self._base),
                timeout=_TIMEOUTS_S,
                max_pool_connections=1,
            )
        return self._local.connection


def _page(answer: Any) -> Page:
    root = ElementTree.fromstring(answer.content)  # noqa: S314 -- botocore reads the same with the same parser
    space = "".join(re.findall(r"^{.*?}", root.tag))
    objects = []
    for item in root.iterfind(f"{space}Contents"):
        values = {child.tag: child.text or "" for child in item}
        changed = datetime.fromisoformat(values[f"{space}LastModified"])
        tag = values[f"{space}ETag"]
        objects.append((unquote(values[f"{space}Key"]), int(values[f"{space}Size"]), changed, tag))
    token = root.findtext(f"{space}NextContinuationToken")
    if root.tag != f"{space}ListBucketResult" or (root.findtext(f"{space}IsTruncated") == "true") != bool(
        token
    ):
        raise ValueError("no listing")
    date = answer.headers.get("date")
    return Page(objects, parsedate_to_datetime(date) if date else datetime.now(UTC), token)
