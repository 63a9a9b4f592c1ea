"""Files to and from a bucket: in parts, side by side, hashed on the way, resumed where they stopped."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from itertools import cycle
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError

from artifacts.atomic import CHUNK_BYTES, changed_error, disk_errors, file_state

ATTEMPTS = 5
PART_BYTES = 8 << 20  # of an upload
RANGE_BYTES = 16 << 20  # of a download
_MOST_PARTS = 9_000  # S3 takes 10,000
_AT_ONCE = 4  # parts of one file under way; an upload takes PART_BYTES of memory for each


def put(client: Any, at: dict[str, str], data: bytes | memoryview) -> None:
    """Send bytes to ``at`` (Bucket, Key), many of them in parts side by side."""
    if len(data) > PART_BYTES:
        starts, data = range(0, len(data), PART_BYTES), memoryview(data)
        _send_parts(client, at, (data[start : start + PART_BYTES] for start in starts))
    else:
        client.put_object(**at, Body=bytes(data))


def upload(
    client: Any, at: dict[str, str], source: Path, sha256: str | None, hashed: os.stat_result | None
) -> str:
    """Send a file to ``at`` (Bucket, Key), as ``Backend.upload`` says; nothing is there where it raises."""
    with disk_errors(source), source.open("rb") as file:
        check = _Check(source, os.fstat(file.fileno()), sha256, hashed)
        size = os.fstat(file.fileno()).st_size
        if size > PART_BYTES:
            _send_parts(client, at, _parts(file, check, max(PART_BYTES, -(-size // _MOST_PARTS))))
            return check.sha256
        data = file.read()
        check.update(data)
        check.finish(file)
    checksum = base64.b64encode(bytes.fromhex(check.sha256)).decode()
    client.put_object(**at, Body=data, ChecksumSHA256=checksum)
    return check.sha256


def _parts(file: BinaryIO, check: _Check, part_bytes: int) -> Iterator[memoryview]:
    """The file in parts, each of which lies where the ``_AT_ONCE``-th before it lay."""
    for memory in cycle([memoryview(mmap(-1, part_bytes)) for _ in range(_AT_ONCE)]):
        part = memory[: file.readinto(memory)]  # type: ignore[attr-defined]  # a BufferedReader, which fills it
        if not part:
            break
        check.update(part)
        yield part
    check.finish(file)


def _send_parts(client: Any, at: dict[str, str], parts: Iterable[memoryview]) -> None:
    """Send an object in parts, ``_AT_ONCE`` at once. Where one fails, or ``parts`` does, nothing is there."""
    upload_id = client.create_multipart_upload(**at)["UploadId"]

    def send(number: int, data: memoryview) -> dict[str, Any]:
        part = client.upload_part(**at, UploadId=upload_id, PartNumber=number, Body=_Body(data))
        return {"PartNumber": number, "ETag": part["ETag"]}

    sent: list[dict[str, Any]] = []
    waiting: deque[Future[dict[str, Any]]] = deque()
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for number, data in enumerate(parts, 1):
                waiting.append(pool.submit(send, number, data))
                if len(waiting) == _AT_ONCE:
                    sent.append(waiting.popleft().result())
            sent += [future.result() for future in waiting]
        client.complete_multipart_upload(**at, UploadId=upload_id, MultipartUpload={"Parts": sent})
    except BaseException:
        client.abort_multipart_upload(**at, UploadId=upload_id)
        raise


class _Body:
    """Memory as the file that botocore sends, without a copy of it."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> memoryview:
        """The next bytes: a chunk of them, however few botocore asks for (16 KB)."""
        start = self._at
        self._at = min(start + CHUNK_BYTES, len(self._data)) if size >= 0 else len(self._data)
        return self._data[start : self._at]

    def tell(self) -> int:
        """Where the next bytes are."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere else."""
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at


class _Check:
    """The ``sha256`` of what is read of a file, and whether that is what is to be read.

    ``opened``: the file's state now. ``sha256`` with ``hashed``, its state then, spares hashing it again.
    """

    def __init__(
        self, source: Path, opened: os.stat_result, sha256: str | None, hashed: os.stat_result | None
    ) -> None:
        self._source, self._expected = source, sha256
        self._state = None if sha256 and not hashed else file_state(hashed or opened)
        self._digest = None if sha256 and hashed else hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all that was read."""
        return self._digest.hexdigest() if self._digest else self._expected or ""

    def update(self, data: bytes | memoryview) -> None:
        """``data`` comes next."""
        if self._digest:
            self._digest.update(data)

    def finish(self, file: BinaryIO) -> None:
        """That was all. Raises DataError if it is something else."""
        is_same = self._state in (None, file_state(os.fstat(file.fileno())))
        if not is_same or self.sha256 != (self._expected or self.sha256):
            raise changed_error(self._source)


def download(client: Any, at: dict[str, str], target: Path, size: int, etag: str) -> str:
    """Fetch an object of ``size`` bytes into ``target``; the sha256 of what came.

    Killed, and called again with the same target, it fetches only the parts that are missing: their
    list lies beside the target until it is whole.
    """
    done_path = target.with_name(f"{target.name}.parts")
    with disk_errors(target):
        done = _done_parts(done_path, target, size, etag)
        if not done:
            target.unlink(missing_ok=True)
            done_path.write_text(_heading(etag, size), encoding="ascii")
        digest, waiting = hashlib.sha256(), deque[Future[int]]()
        with (
            target.open("r+b" if done else "x+b", buffering=0) as file,
            done_path.open("a", encoding="ascii") as log,
        ):
            file.truncate(size)

            def fetch(start: int) -> int:
                if start not in done:
                    _fetch_range(client, at, file, start, min(start + RANGE_BYTES, size), etag)
                    log.write(f"{start}\n")
                    log.flush()
                return start

            def hash_one() -> None:
                start = file.seek(waiting.popleft().result())
                end = min(start + RANGE_BYTES, size)
                for chunk in range(start, end, CHUNK_BYTES):
                    digest.update(file.read(min(CHUNK_BYTES, end - chunk)))

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for start in range(0, size, RANGE_BYTES):
                    if len(waiting) == _AT_ONCE:
                        hash_one()
                    waiting.append(pool.submit(fetch, start))
                while waiting:
                    hash_one()
        done_path.unlink()
    return digest.hexdigest()


def _done_parts(done_path: Path, target: Path, size: int, etag: str) -> set[int]:
    """Where the parts start that an earlier attempt at the same object left in ``target``."""
    if not (done_path.is_file() and target.is_file()):
        return set()
    text, heading = done_path.read_text(encoding="ascii", errors="replace"), _heading(etag, size)
    if not text.startswith(heading) or target.stat().st_size != size:
        return set()
    lines = text.removeprefix(heading).split("\n")[:-1]  # the last one may be half a number
    return {int(line) for line in lines if line.isdigit()}


def _heading(etag: str, size: int) -> str:
    """What the numbers of a list of parts are about."""
    return f"{etag} {size} {RANGE_BYTES}\n"


def _fetch_range(client: Any, at: dict[str, str], file: FileIO, start: int, end: int, etag: str) -> None:
    """Fetch the bytes from ``start`` to ``end`` into their place; if the connection breaks, then the rest.

    In small chunks: the page faults of buffers as large as a part take longer than the copying.
    """
    tries = 0
    while start < end:
        answer = client.get_object(**at, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
        tries += 1 + answer["ResponseMetadata"].get("RetryAttempts", 0)
        try:
            for data in answer["Body"].iter_chunks(CHUNK_BYTES):
                start += os.pwrite(file.fileno(), data, start)
            return
        except BotoCoreError:
            if tries >= ATTEMPTS:
                raise
        _wait(tries)


def fetch_object(client: Any, at: dict[str, str], *, attempts: int = ATTEMPTS) -> tuple[bytes, str]:
    """An object's bytes and its ETag; asked for again if the connection breaks.

    botocore repeats a request that got no answer, this one whose answer broke off: together ``attempts``.
    """
    tries = 0
    while True:
        answer = client.get_object(**at)
        tries += 1 + answer["ResponseMetadata"].get("RetryAttempts", 0)
        try:
            return answer["Body"].read(), answer["ETag"]
        except BotoCoreError:
            if tries >= attempts:
                raise
        _wait(tries)


def _wait(tries: int) -> None:
    time.sleep(random.uniform(0, 0.1 * 2**tries))
