"""Objects in a bucket of S3 or of a server that speaks its protocol, through boto3.

Credentials, region and endpoint come from the usual AWS chain alone (environment, ``~/.aws``, instance
role; ``AWS_ENDPOINT_URL`` names another server). Nothing is written without a condition where two
writers could meet: ``If-None-Match`` creates, ``If-Match`` replaces, and 409 or 412 means "lost".
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from artifacts.backends.base import ObjectInfo
from artifacts.backends.s3_bulk import AT_ONCE, BulkReader, Page
from artifacts.backends.s3_errors import s3_errors, status_of
from artifacts.backends.s3_transfer import ATTEMPTS, download, fetch_object, put, upload
from artifacts.errors import ResourceError
from artifacts.paths import relative_path

_LOST = (404, 409, 412)
_PROBES = "probe/"
_UPLOAD = "#upload="


class S3Backend:
    """``s3://BUCKET/PREFIX``. ``allow_unsafe``: use a server without conditional writes all the same."""

    def __init__(self, bucket: str, prefix: str = "", *, allow_unsafe: bool = False) -> None:
        self.bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._allow_unsafe = allow_unsafe
        self._proven = False
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """``s3://BUCKET/PREFIX``."""
        return f"s3://{self.bucket}/{self._prefix}".rstrip("/")

    @cached_property
    def _session(self) -> Any:
        from botocore.session import Session  # what boto3 adds to it is not used here

        with s3_errors(self.url):
            return Session()

    @cached_property
    def client(self) -> Any:
        """The client of botocore, which is boto3's too; made at first use, safe to share between threads."""
        return self._client(ATTEMPTS)

    @cached_property
    def _patient_client(self) -> Any:
        """For what was asked once already."""
        return self._client(ATTEMPTS - 1)

    @cached_property
    def _bulk(self) -> BulkReader:
        with s3_errors(self.url):
            return BulkReader(self._session, self.client, self.bucket)

    def _client(self, attempts: int) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # Blobs carry their own sha256; everything else is small.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with s3_errors(self.url):
            return self._session.create_client("s3", config=config)

    def get(self, key: str) -> bytes | None:
        """The object, or None."""
        found = self._get(key)
        return None if found is None else found[0]

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Create or replace the object, a large one in parts sent side by side."""
        with s3_errors(self.url):
            put(self.client, self._at(key), data)

    def put_new(self, key: str, data: bytes) -> bool:
        """Create the object; False, and nothing changes, if it exists."""
        if not self._allow_unsafe:
            return self._conditional(key, data, IfNoneMatch="*")
        if self._get(key) is not None:
            return False
        self.put(key, data)
        return True

    def compare_and_swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace the object if it still is ``expected`` (None: absent)."""
        if expected is None:
            return self.put_new(key, data)
        found = self._get(key)
        if found is None or found[0] != expected:
            return False
        if self._allow_unsafe:
            self.put(key, data)
            return True
        return self._conditional(key, data, IfMatch=found[1])

    def info(self, key: str) -> ObjectInfo | None:
        """Size and age of the object, or None."""
        head = self._head(key)
        if head is None:
            return None
        return ObjectInfo(key, head["ContentLength"], _age_s(_server_time(head), head["LastModified"]))

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """The objects, in order, several under way at once."""
        with s3_errors(self.url):
            bulk = self._bulk

        def get(key: str) -> bytes | None:
            at = self._at(key)
            is_answered, found = bulk.get(at["Key"])
            if not is_answered:
                with self._absent_is_none():
                    found, _ = fetch_object(self._patient_client, at, attempts=ATTEMPTS - 1)
            return found

        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(get, keys)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects under ``prefix``, in order of their keys."""
        token: str | None = None
        while True:
            page = self._bulk.page(self._prefix + prefix, token) or self._page(prefix, token)
            for key, size, changed, tag in page.objects:
                if not key.endswith("/"):
                    yield ObjectInfo(key.removeprefix(self._prefix), size, _age_s(page.now, changed), tag)
            token = page.token
            if not token:
                return

    def _page(self, prefix: str, token: str | None) -> Page:
        more = {"ContinuationToken": token} if token else {}
        with s3_errors(self.url):
            page = self._patient_client.list_objects_v2(
                Bucket=self.bucket, Prefix=self._prefix + prefix, **more
            )
        objects = [
            (item["Key"], item["Size"], item["LastModified"], item["ETag"])
            for item in page.get("Contents", ())
        ]
        return Page(objects, _server_time(page), page.get("NextContinuationToken"))

    def delete(self, key: str) -> bool:
        """Remove the object; False if there was none."""
        if self._head(key) is None:
            return False
        with s3_errors(self.url):
            self.client.delete_object(**self._at(key))
        return True

    def touch(self, key: str) -> bool:
        """Set the object's age to zero: the server copies it onto itself."""
        with self._absent_is_none():
            # S3 refuses a copy onto itself that changes nothing.
            self.client.copy_object(
                **self._at(key), CopySource={"Bucket": self.bucket, "Key": self._at(key)["Key"]},
                MetadataDirective="REPLACE", Metadata={"touched": datetime.now(UTC).isoformat()},
            )  # fmt: skip
            return True
        return False

    def upload(
        self, key: str, source: Path, *, sha256: str | None = None, hashed: os.stat_result | None = None
    ) -> str:
        """Create or replace the object from a file, large ones in parts sent side by side."""
        with s3_errors(self.url):
            return upload(self.client, self._at(key), source, sha256, hashed)

    def download(self, key: str, target: Path) -> str | None:
        """Write the object to a new file, in ranges fetched side by side; goes on where it stopped."""
        head = self._head(key)
        if head is None:
            return None
        with s3_errors(self.url):
            sha256 = download(self.client, self._at(key), target, head["ContentLength"], head["ETag"])
        target.chmod(0o444)
        return sha256

    def local_path(self, key: str) -> Path | None:
        """None: the objects are elsewhere."""
        relative_path(key)
        return None

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Uploads in parts that were never completed."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self._prefix
        )
        with s3_errors(self.url):
            for page in pages:
                now = _server_time(page)
                for item in page.get("Uploads", ()):
                    key = f"{item['Key'].removeprefix(self._prefix)}{_UPLOAD}{item['UploadId']}"
                    yield ObjectInfo(key, 0, _age_s(now, item["Initiated"]))
        yield from self.list(_PROBES)

    def delete_leftover(self, key: str) -> None:
        """Abort one upload, or remove one probe."""
        key, found, upload_id = key.partition(_UPLOAD)
        if not found:
            self.delete(key)
            return
        with self._absent_is_none():
            self.client.abort_multipart_upload(**self._at(key), UploadId=upload_id)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._prefix + relative_path(key)}

    def _get(self, key: str) -> tuple[bytes, str] | None:
        with self._absent_is_none():
            return fetch_object(self.client, self._at(key))
        return None

    def _head(self, key: str) -> dict[str, Any] | None:
        with self._absent_is_none():
            head: dict[str, Any] = self.client.head_object(**self._at(key))
            return head
        return None

    @contextmanager
    def _absent_is_none(self) -> Iterator[None]:
        """Leave the block where the server says 404."""
        from botocore.exceptions import ClientError

        try:
            with s3_errors(self.url, 404):
                yield
        except ClientError:
            pass

    def _conditional(self, key: str, data: bytes, **condition: str) -> bool:
        """Write under a condition. Where an answer may be lost, what is there now says whether we won."""
        from botocore.exceptions import ClientError

        self._require_conditions()
        try:
            with s3_errors(self.url, *_LOST):
                self.client.put_object(**self._at(key), Body=data, **condition)
                return True
        except ClientError as error:
            return error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0 and self.get(key) == data
        except ResourceError as error:
            if (status_of(error.__cause__) or 500) >= 500 and self.get(key) == data:
                return True
            raise

    def _require_conditions(self) -> None:
        """Once for each process: a write whose condition does not hold has to be refused."""
        with self._lock:
            if self._proven:
                return
            probe = f"{_PROBES}{secrets.token_hex(8)}"
            with s3_errors(self.url):
                self.client.put_object(**self._at(probe), Body=b"")
                try:
                    if not (self._refuses(probe, IfNoneMatch="*") and self._refuses(probe, IfMatch='"0"')):
                        raise ResourceError(
                            f"{self.url}: the server has no conditional writes, so two runs could overwrite"
                            " each other",
                            "use another server, or --allow-unsafe-store for one run at a time",
                        )
                finally:
                    self.client.delete_object(**self._at(probe))
            self._proven = True

    def _refuses(self, key: str, **condition: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.client.put_object(**self._at(key), Body=b"", **condition)
        except ClientError as error:
            if status_of(error) not in _LOST:
                raise
            return True
        return False


def _server_time(answer: dict[str, Any]) -> datetime:
    """The storage's own clock; ages by this machine's would be wrong by the difference."""
    text = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(text) if text else datetime.now(UTC)


def _age_s(now: datetime, then: datetime) -> float:
    return max(0.0, (now - then).total_seconds())
