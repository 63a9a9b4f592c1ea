"""The store under SIGKILL, races, a full disk and hostile names: nothing visible is ever invalid."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from artifacts.errors import ResourceError, UsageError
from artifacts.ref import ArtifactRef
from artifacts.store import Store

FORK = multiprocessing.get_context("fork")
STEPS = ("mkdir", "fsync", "fchmod", "replace", "link", "utime")


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a kill loses nothing that was written


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def commit_one(store: Store, folders: list[Path], number: int, make) -> None:
    store.commit(make.draft(number), folders[number % len(folders)], name=f"demo{number % 3}")


def killed_child(action: Callable[[], object], delay_s: float | None = None) -> bool:
    """Run the action in a process; SIGKILL it after a delay. True if it was killed before its end."""
    process = FORK.Process(target=action, daemon=True)
    process.start()
    if delay_s is not None:
        time.sleep(delay_s)
        process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.criterion("T42")
def test_sigkill_at_random_moments_of_commits(store: Store, tmp_path: Path, make) -> None:
    rng = random.Random(42)
    folders = [make.files(tmp_path / "payloads" / str(seed), seed, size=50_000) for seed in range(4)]
    longest_s, killed, number = 0.1, 0, 0
    while killed < 60 and number < 120:
        number += 1
        was_killed = killed_child(
            partial(commit_one, store, folders, number, make), rng.uniform(0, longest_s)
        )
        longest_s *= 1.1 if was_killed else 0.8  # so that kills fall into the commit on any machine
        killed += was_killed
        assert store.verify() == [], number
    assert killed == 60
    for again in range(1, number + 1):
        commit_one(store, folders, again, make)
        assert store.lookup("base", make.draft(again).fingerprint) is not None
    store.gc(grace_s=0)
    assert store.verify() == []
    assert list(store.backend.leftovers()) == []


@pytest.mark.criterion("T42")
def test_sigkill_before_each_step_of_a_commit(store: Store, tmp_path: Path, make) -> None:
    """Every system call that changes the disk, in turn, is the last thing that the process did not do."""
    folder = make.files(tmp_path / "payload", 0, size=100)
    step, reached = 0, True
    while reached:
        step += 1

        def commit_until(step: int = step) -> None:
            countdown = iter(range(step - 1, -1, -1))
            for name in STEPS:
                real = getattr(os, name)

                def counted(*args, real=real, **kwargs):
                    if next(countdown) == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                setattr(os, name, counted)
            store.commit(make.draft(step), folder, name=f"n{step}")

        reached = killed_child(commit_until)
        assert store.verify() == [], step
        answer = store.lookup("base", make.draft(step).fingerprint)
        published = store.commit(make.draft(step), folder, name=f"n{step}")
        assert str(published.ref) == f"base/n{step}@v1"
        assert answer in (None, published.manifest)
        assert store.resolve(f"base/n{step}")[1] == published.manifest
    assert step > 20
    store.gc(grace_s=0)
    assert list(store.backend.leftovers()) == []


@pytest.mark.criterion("T42")
def test_a_writer_in_place_does_not_survive_this_harness(tmp_path: Path) -> None:
    """If it did, the kills above would prove nothing."""
    rng = random.Random(1)
    data = rng.randbytes(8_000_000)
    path, torn = tmp_path / "file", 0

    def write_for_ever() -> None:
        while True:
            with path.open("wb") as file:
                for start in range(0, len(data), 65536):
                    file.write(data[start : start + 65536])

    for _ in range(20):
        assert killed_child(write_for_ever, rng.uniform(0.02, 0.06))
        torn += path.exists() and path.read_bytes() != data
    assert torn >= 10


@pytest.mark.criterion("T41")
def test_concurrent_committers_of_one_fingerprint(store: Store, tmp_path: Path, make) -> None:
    workers, rounds = 8, 10
    folders = [make.files(tmp_path / "payloads" / str(seed), seed, size=1000) for seed in range(workers)]
    barrier, results = FORK.Barrier(workers), FORK.SimpleQueue()

    def work(index: int) -> None:
        for number in range(rounds):
            barrier.wait(60)
            published = store.commit(make.draft(number), folders[index], name="demo")
            results.put((number, str(published.ref), published.manifest.hex, published.manifest.digest))

    processes = [FORK.Process(target=work, args=(index,), daemon=True) for index in range(workers)]
    for process in processes:
        process.start()
    found = [results.get() for _ in range(workers * rounds)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for number in range(rounds):
        answers = {answer for answer in found if answer[0] == number}
        assert len(answers) == 1
        ((_, ref, manifest, _),) = answers
        winner = store.lookup("base", make.draft(number).fingerprint)
        assert winner is not None
        assert winner.hex == manifest
        assert store.resolve(ref)[1].digest == winner.digest
    assert len({answer[3] for answer in found}) == len(store.list("base", "demo"))
    assert store.verify() == []


def test_a_full_disk_leaves_the_old_artifacts_intact(store: Store, tmp_path: Path, make) -> None:
    old = store.commit(make.draft(1), make.files(tmp_path / "old", 1), name="demo")
    folder, outcome = make.files(tmp_path / "new", 2, size=1_000_000), FORK.SimpleQueue()

    def commit_with_little_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            store.commit(make.draft(2), folder, name="demo")
        except ResourceError as error:
            outcome.put(str(error))

    assert not killed_child(commit_with_little_space)
    message = outcome.get()
    assert "may write" in message
    assert "\n" not in message
    assert list(store.backend.leftovers()) == []
    assert store.verify() == []
    assert store.resolve("base/demo")[1] == old.manifest
    assert str(store.commit(make.draft(2), folder, name="demo").ref) == "base/demo@v2"


@pytest.mark.criterion("T45")
def test_hostile_names_never_write_outside_the_root(store: Store, tmp_path: Path, make) -> None:
    rng = random.Random(45)
    parts = [
        "..",
        ".",
        "/",
        "\\",
        "\0",
        "%2e",
        "%2f",
        "\u2024",
        "\uff0e",
        "C:",
        "~",
        "a",
        "v1",
        "@",
        "sha256:",
    ]
    parts += [" ", "\n", "x" * 300, "$HOME", "*", "-", "latest", ".json", "\ud800", "name"]
    manifest = store.commit(make.draft(1), make.files(tmp_path / "payload", 0, size=10), name="demo").manifest
    uses: list[Callable[[str], object]] = [
        ArtifactRef.parse, store.drop_attempt, store.attempt_dir, store.resolve,
        lambda text: store.lookup(text, "0" * 64), lambda text: store.lookup("base", text),
        lambda text: store.backend.put_new(text, b"x"), lambda text: store.name(manifest, text),
        lambda text: store.set_alias("base/demo@v1", text),
    ]  # fmt: skip

    def outside() -> list[str]:
        return sorted(
            str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "store")
        )

    before, accepted = outside(), 0
    for _ in range(5000):
        text = "".join(rng.choice(parts) for _ in range(rng.randint(1, 5)))
        for use in uses:
            with suppress(UsageError, ResourceError):  # anything else is a failure
                use(text)
                accepted += 1
    assert accepted > 100, "the fuzzer never made a legal name"
    assert outside() == before
