"""Big artifacts against a plain copy and boto3's tuned transfer manager, many small ones against s3fs.

    python benchmarks/store.py [--gb 1] [--rounds 3]

Prints one JSON document. A ratio is the peer's time over ours in the same run, rounds interleaved, of the
medians: above 1 we are faster. Ours includes every digest and, on a disk, a sync of every file; the plain
copy is synced too. The S3 server is SeaweedFS on loopback, on the same cores as its client.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import s3fs
from boto3.s3.transfer import TransferConfig

from artifacts import layout
from artifacts.atomic import sync_directory
from artifacts.backends import LocalBackend, open_backend
from artifacts.catalog import Catalog
from artifacts.fingerprint import recipe, sha256_json
from artifacts.listing import Entry, relist
from artifacts.manifest import Draft, FileEntry, Manifest, draft_manifest
from artifacts.metrics import publish_metrics
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows.services.s3_server import S3Server

FILE_MB = 64
BUCKET = "bench"
# The best of what was tried (chunks of 8, 16 and 64 MB; 2 to 16 at once; files side by side or not).
TUNED = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=8)


def draft(number: int) -> Draft:
    payload = recipe("base", 1, {"number": number}, inputs={}, modules={})
    return Draft(stage="base", kind="base", fingerprint=sha256_json(payload), recipe=payload)


def fill(folder: Path, files: int, megabytes: int) -> Path:
    """Random files, which nothing can compress."""
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"{number}.bin").open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1 << 20))
    return folder


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(rounds: int, pairs: dict[str, tuple[Callable[[int], object], Callable[[int], object]]]) -> Any:
    """name -> (ours, peer), each called with the round: medians in seconds and their ratio."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
    for number in range(rounds):
        for name, (ours, peer) in pairs.items():
            turn = [(0, ours), (1, peer)]
            for which, action in turn if number % 2 == 0 else reversed(turn):
                os.sync()  # what the one before left to write is not for this one to wait for
                times[name][which].append(seconds(lambda: action(number)))  # noqa: B023 -- called at once
    return {
        name: {
            "ours_s": round(statistics.median(ours), 3),
            "peer_s": round(statistics.median(peer), 3),
            "ratio": round(statistics.median(peer) / statistics.median(ours), 2),
        }
        for name, (ours, peer) in times.items()
    }


def plain_copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for path in target.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(target)


def local(work: Path, payload: Path, rounds: int) -> Any:
    """A folder as a store. A fresh store each round, so that every byte is new to it.

    ``push`` is what the pipeline does with a finished attempt: its files become the store's by hard links.
    ``push_copied`` leaves them to their owner.
    """

    def store(number: int, place: str = "store") -> Store:
        return Store(LocalBackend(work / f"{place}{number}"))

    def pull(number: int) -> None:
        manifest = manifest_of(store(number))
        (work / "home/cache/verified.json").unlink(missing_ok=True)
        store(number).checkout(manifest, work / f"views{number}")

    return compare(rounds, {
        "push": (lambda n: store(n).commit(draft(1), payload, name="demo", take=True),
                 lambda n: plain_copy(payload, work / f"copy{n}")),
        "push_copied": (lambda n: store(n, "copied").commit(draft(1), payload, name="demo"),
                        lambda n: plain_copy(payload, work / f"again{n}")),
        "pull": (pull, lambda n: plain_copy(work / f"copy{n}", work / f"back{n}")),
    })  # fmt: skip


def manifest_of(store: Store) -> Manifest:
    return store.resolve("base/demo")[1]


def s3(work: Path, payload: Path, rounds: int) -> Any:
    """The same through S3; ``push`` as the pipeline does it."""
    client = boto3.Session().client("s3")

    def store(number: int) -> Store:
        return Store(open_backend(f"s3://{BUCKET}/store{number}"))

    def pull(number: int) -> None:
        shutil.rmtree(work / "home", ignore_errors=True)
        opened = store(number)
        opened.checkout(manifest_of(opened), work / f"s3views{number}")

    def peer_push(number: int) -> None:
        for path in payload.iterdir():
            client.upload_file(str(path), BUCKET, f"peer{number}/{path.name}", Config=TUNED)

    def peer_pull(number: int) -> None:
        target = work / f"s3back{number}"
        target.mkdir()
        for path in payload.iterdir():
            client.download_file(BUCKET, f"peer{number}/{path.name}", str(target / path.name), Config=TUNED)

    found = compare(rounds, {
        "push": (lambda n: store(n).commit(draft(1), payload, name="demo", take=True), peer_push),
        "pull": (pull, peer_pull),
    })  # fmt: skip
    found["unchanged_push"] = unchanged(store(0), payload)
    return found


def unchanged(store: Store, payload: Path) -> Any:
    """The same files again, under another fingerprint: how many blob bytes move."""
    sent: list[int] = []
    upload, put = store.backend.upload, store.backend.put

    def uploaded(key: str, source: Path, **more: Any) -> None:
        sent.append(source.stat().st_size)
        upload(key, source, **more)

    def sent_from_memory(key: str, data: bytes | memoryview) -> None:
        if key.startswith("blobs/"):
            sent.append(len(data))
        put(key, data)

    store.backend.upload, store.backend.put = uploaded, sent_from_memory  # type: ignore[method-assign]
    return {
        "seconds": round(seconds(lambda: store.commit(draft(2), payload, name="again")), 3),
        "blob_bytes": sum(sent),
    }


def small_objects(rounds: int, url: str, count: int) -> Any:
    """Listing every object of ``url``, and reading ``count`` of them, with a client made anew each time."""
    keys = [info.key for info in open_backend(url).list("")]

    def files() -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)

    def read_s3fs(_: int) -> None:
        address = url.removeprefix("s3://")
        assert len(files().cat([f"{address}/{key}" for key in keys[:count]])) == count

    found = compare(rounds, {
        "list": (lambda _: list(open_backend(url).list("")), lambda _: files().find(url, detail=True)),
        "read": (lambda _: list(open_backend(url).get_many(keys[:count])), read_s3fs),
    })  # fmt: skip
    return {"listed": len(keys), "read_objects": count} | found


def listings(work: Path, url: str, count: int) -> Any:
    """``nanochat art ls`` of ``count`` small artifacts, ten versions of each name, in a process of its own.

    ``cold``: from an empty home folder; ``warm``: again. Medians of five.
    """
    store = Store.open(url)
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda name: _small_artifacts(store, name), range(count // 10)):
            pass
    program = Path(sys.executable).with_name("nanochat")
    environment = {**os.environ, "NANOCHAT_HOME": str(work / "cold"), "NANOCHAT_STORE": url}

    def listed() -> None:
        done = subprocess.run([program, "art", "ls"], env=environment, capture_output=True, text=True)
        assert done.stdout.count("base/n") == count, done.stderr

    times: dict[str, list[float]] = {"cold_s": [], "warm_s": []}
    for _ in range(5):
        shutil.rmtree(work / "cold", ignore_errors=True)
        for taken in times.values():
            taken.append(seconds(listed))
    return {"artifacts": count} | {name: round(statistics.median(taken), 2) for name, taken in times.items()}


def question(work: Path, url: str) -> Any:
    """``nanochat metrics`` over every run of that store, in a process of its own, the median of three.

    ``query_s``: DuckDB's answer alone, within this process. ``first_s``: with an empty home folder.
    """
    sql = "SELECT run, min(value) AS best FROM metrics WHERE name = 'val_bpb' GROUP BY 1 ORDER BY 2 LIMIT 9"
    program = Path(sys.executable).with_name("nanochat")
    environment = {**os.environ, "NANOCHAT_HOME": str(work / "asking"), "NANOCHAT_STORE": url}

    def asked() -> None:
        subprocess.run([program, "metrics", sql, "--json"], env=environment, capture_output=True, check=True)

    catalog = Catalog(open_backend(url))
    catalog.refresh()
    found = {"first_s": seconds(asked), "warm_s": statistics.median(seconds(asked) for _ in range(3))}
    found["query_s"] = statistics.median(seconds(lambda: catalog.query(sql)) for _ in range(3))
    return {name: round(value, 2) for name, value in found.items()}


def _small_artifacts(store: Store, name: int) -> None:
    """Ten versions, written as a commit writes them, but without its locks and syncs."""
    entry = FileEntry(path="model.bin", size=1, sha256="0" * 64)
    history, entries = [], {}
    record = {"v": 1, "kind": "metric", "stage": "base", "name": "val_bpb"}
    curve = [record | {"step": step, "value": 2 - step / 99} for step in range(10)]
    for version in range(1, 11):
        made = draft_manifest(draft(10 * name + version), (entry.model_copy(update={"size": version}),), ())
        pointer = Pointer.to(made)
        store.backend.put(layout.manifest(made.hex), made.to_bytes())
        store.backend.put(layout.fingerprint(made.stage, made.fingerprint), pointer.encode())
        store.backend.put(layout.version("base", f"n{name}", version), pointer.encode())
        if isinstance(store.backend, LocalBackend):
            publish_metrics(store, made, ArtifactRef("base", f"n{name}", version), curve)
        entries[version] = Entry.of(made)
        history.append({"version": version, "digest": made.digest, "time": made.created})
    latest = layout.encode({"schema": 1, "history": history})
    store.backend.put(layout.alias("base", f"n{name}", "latest"), latest)
    relist(store.backend, "base", f"n{name}", entries)


def peak_mb(work: Path, megabytes: int) -> Any:
    """Peak memory of a process of its own that pushes and pulls one big file through S3."""
    payload = fill(work / "big", 1, megabytes)
    process = multiprocessing.get_context("spawn").Process(target=_round_trip, args=(work, payload))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    process.start()
    process.join()
    assert process.exitcode == 0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"file_mb": megabytes, "peak_mb": peak // 1024, "of_an_earlier_child_mb": before // 1024}


def _round_trip(work: Path, payload: Path) -> None:
    store = Store(open_backend(f"s3://{BUCKET}/big"))
    store.commit(draft(1), payload, name="demo")
    store.checkout(manifest_of(store), work / "bigviews")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--big-mb", type=int, default=2048, help="size of the file for the memory peak")
    parser.add_argument("--artifacts", type=int, default=10_000, help="how many to list")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        work = Path(folder)
        os.environ["NANOCHAT_HOME"] = str(work / "home")
        payload = fill(work / "payload", max(1, round(arguments.gb * 1024 / FILE_MB)), FILE_MB)
        result: dict[str, Any] = {"gb": arguments.gb, "rounds": arguments.rounds}
        with S3Server(work / "server") as server:
            os.environ.update(server.environment)
            boto3.Session().client("s3").create_bucket(Bucket=BUCKET)
            result["memory"] = peak_mb(work, arguments.big_mb)
            os.sync()
            result["ls_s3"] = listings(work, f"s3://{BUCKET}/many", arguments.artifacts)
            result["s3fs"] = small_objects(arguments.rounds, f"s3://{BUCKET}/many", 3000)
            result["s3"] = s3(work, payload, arguments.rounds)
        shutil.rmtree(work / "server")
        result["ls_local"] = listings(work, str(work / "many"), arguments.artifacts)
        result["metrics_local"] = question(work, str(work / "many"))
        shutil.rmtree(work / "many")
        result["local"] = local(work, payload, arguments.rounds)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main())
