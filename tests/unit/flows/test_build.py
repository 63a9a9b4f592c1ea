"""One stage: found or built, exactly once, and never half."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import DataError, ResourceError, UsageError
from flows.build import Builder
from flows.dag import Stage
from flows.launch import STOP, Interrupted, StageKilled
from flows.observe import Observer

Make = Callable[..., Builder]
QUIET = Observer()


def build(builder: Builder, stage: Stage, **inputs: object):
    return builder.build(builder.work(stage, inputs), QUIET)


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}


def test_built_once_then_found(make_builder: Make, first: Stage, home: Path) -> None:
    built = build(make_builder(first={}), first)
    before = contents(home / "store")
    found = build(make_builder(first={}), first)
    assert (built.status, found.status) == ("ran", "cached")
    assert built.artifact == found.artifact == "tokenizer/demo@v1"
    assert built.digest == found.digest
    assert found.headline == "loss 1"
    assert contents(home / "store") == before


def test_an_input_is_a_folder_and_its_digest_is_identity(
    make_builder: Make, first: Stage, second: Stage
) -> None:
    builder = make_builder(first={}, second={})
    made = build(builder, first)
    result = build(builder, second, tokenizer=made)
    assert (builder.checkout(result) / "payload.txt").read_text() == "payload payload.txt run"
    manifest = builder.store.manifest(result.pointer)
    assert [(p.role, p.ref, p.digest) for p in manifest.parents] == [
        ("tokenizer", made.artifact, made.digest)
    ]
    assert manifest.recipe["inputs"] == {"tokenizer": made.digest}


def test_a_runtime_field_rebuilds_nothing_and_an_identity_field_does(
    make_builder: Make, first: Stage
) -> None:
    build(make_builder(first={}), first)
    assert build(make_builder(first={"lines": ["hello"]}), first).status == "cached"
    changed = build(make_builder(first={"text": "other"}), first)
    assert (changed.status, changed.artifact) == ("ran", "tokenizer/demo@v2")


def test_force_rebuilds_and_says_identical(make_builder: Make, first: Stage) -> None:
    built = build(make_builder(first={}), first)
    forced = build(make_builder(first={}, forced={"first"}), first)
    assert (forced.status, forced.note, forced.artifact) == ("ran", "identical", "tokenizer/demo@v1")
    assert forced.digest == built.digest


def test_reuse_takes_a_drifted_artifact_and_everything_after_records_it(
    make_builder: Make, first: Stage, second: Stage
) -> None:
    old = build(make_builder(first={}), first)
    builder = make_builder(first={"text": "changed"}, second={}, reuse={"first": ""})
    reused = build(builder, first)
    assert (reused.status, reused.digest, reused.drifted) == ("cached", old.digest, ["tokenizer/demo@v1"])
    after = build(builder, second, tokenizer=reused)
    assert after.drifted == ["tokenizer/demo@v1"]
    assert builder.store.manifest(after.pointer).provenance.settings["reused"] == ["tokenizer/demo@v1"]


def test_reuse_of_another_kind_or_of_nothing_is_refused(
    make_builder: Make, first: Stage, second: Stage
) -> None:
    builder = make_builder(first={}, second={}, reuse={"second": "tokenizer/demo"})
    made = build(builder, first)
    with pytest.raises(UsageError, match="base"):
        build(builder, second, tokenizer=made)
    with pytest.raises(ResourceError, match="base/demo"):
        build(make_builder(second={}, reuse={"second": ""}), second, tokenizer=made)


def test_a_damaged_hit_is_refused_by_name(make_builder: Make, first: Stage, home: Path) -> None:
    build(make_builder(first={}), first)
    for blob in (home / "store" / "blobs").rglob("*"):
        if blob.is_file():
            blob.chmod(0o644)
            blob.write_bytes(b"")
    with pytest.raises(DataError, match=r"tokenizer/demo@v1.*--force first"):
        build(make_builder(first={}), first)


def test_what_the_program_says_is_the_error(make_builder: Make, first: Stage) -> None:
    with pytest.raises(
        DataError, match=r"first: shard_00000.parquet: row group 2 is corrupt \(download it again\)"
    ):
        build(make_builder(first={"ending": "bad data"}), first)


def test_a_bug_is_named_with_the_log(make_builder: Make, first: Stage) -> None:
    with pytest.raises(Exception, match=r"exit code 1: ZeroDivisionError: an ordinary bug .*log\.txt"):
        build(make_builder(first={"ending": "bug"}), first)


@pytest.mark.criterion("T98")
def test_a_killed_stage_publishes_nothing_and_the_next_attempt_finishes(
    make_builder: Make, first: Stage
) -> None:
    with pytest.raises(StageKilled, match="out of memory"):
        build(make_builder(first={"ending": "killed"}), first)
    builder = make_builder(first={})
    assert builder.store.list() == []
    assert build(builder, first).status == "ran"


@pytest.mark.criterion("T98")
def test_a_stage_that_takes_too_long_is_stopped(
    make_builder: Make, first: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_STAGE_TIMEOUT_S", "1")
    with pytest.raises(Exception, match="longer than 1 s"):
        build(make_builder(first={"ending": "hangs"}), first)


def test_a_stop_lets_the_stage_save_and_ends_the_run(
    make_builder: Make, first: Stage, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    builder = make_builder(first={"ending": "saves", "pid_file": str(pid_file)})

    def stop_when_running() -> None:
        while not pid_file.exists():
            threading.Event().wait(0.05)
        threading.Event().wait(0.5)
        STOP.pull()

    threading.Thread(target=stop_when_running, daemon=True).start()
    with pytest.raises(Interrupted) as caught:
        build(builder, first)
    assert caught.value.exit_code == 130
    with pytest.raises(Interrupted):
        build(make_builder(first={"text": "the next stage does not start"}), first)


def test_a_finished_attempt_that_was_not_committed_is_used(
    make_builder: Make, first: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pids"
    builder = make_builder(first={"pid_file": str(pid_file)})
    with monkeypatch.context() as patch:
        patch.setattr(Builder, "_commit", _killed_here)
        with pytest.raises(KeyboardInterrupt):
            build(builder, first)
    assert build(builder, first).status == "ran"
    assert len(pid_file.read_text().split()) == 1, "the program ran once"


def _killed_here(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.criterion("T97")
def test_of_two_that_want_the_same_one_builds(make_builder: Make, first: Stage, tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(build(make_builder(first={"pid_file": str(pid_file)}), first))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.status for result in results) == ["cached", "cached", "ran"]
    assert len(pid_file.read_text().split()) == 1
    assert len({result.digest for result in results}) == 1


@pytest.mark.criterion("T90")
def test_a_secret_of_the_environment_is_stored_nowhere(
    make_builder: Make, first: Stage, home: Path, monkeypatch: pytest.MonkeyPatch, recorder
) -> None:
    secret = "canary-5f2a9c77"
    monkeypatch.setenv("HUB_TOKEN", secret)
    lines = [f"downloading with {secret}", f"https://user:{secret}@example.org/x", f"WARNING {secret}"]
    builder = make_builder(first={"lines": lines})
    builder.build(builder.work(first, {}), recorder)
    stored = [path for path in (home / "store").rglob("*") if path.is_file()]
    assert stored
    assert [path for path in stored if secret.encode() in path.read_bytes()] == []
    assert "downloading with" in recorder.text
    assert secret not in recorder.text


def test_the_attempt_is_gone_when_the_artifact_is_there(make_builder: Make, first: Stage, home: Path) -> None:
    build(make_builder(first={}), first)
    assert list((home / "store" / "attempts").iterdir()) == []
