"""Checkpoints: what is stored comes back, the newest is found by step, old ones go last."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch

from artifacts.errors import DataError, ResourceError
from nanochat.train import checkpoint
from nanochat.train.checkpoint import load_checkpoint, save_checkpoint
from nanochat.train.published import MANIFEST, TENSORS, latest_checkpoint, newest_step


def save(folder: Path, step: int, **kwargs: int | None) -> Path:
    return save_checkpoint(folder, step, {"w": torch.full((64,), float(step))}, {"step": step}, **kwargs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(path: Path) -> None:
    (path / "state.json").write_text("{}")


def test_every_dtype_shape_and_number_comes_back_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 4, generator=generator)
    tensors = {
        **{
            str(dtype): values.to(dtype)
            for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64)
        },
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "scalar": torch.tensor(3, dtype=torch.int32),
        "empty": torch.empty(0, 5),
        "transposed": values.T,
        "parameter": torch.nn.Parameter(values),
        "first": values[0],  # shares memory with the others
    }
    state = {
        "lr": 0.1 + 0.2,
        "tiny": 5e-324,
        "big": 2**130,
        "text": "é\u2028",
        "none": None,
        "nested": [{"a": []}],
    }
    found, found_state = load_checkpoint(save_checkpoint(tmp_path, 7, tensors, state))
    assert found_state == state
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(*(kept.detach().flatten().view(torch.uint8) for kept in (found[name], tensor)))


def test_the_highest_step_wins_whatever_clock_and_spelling_say(tmp_path: Path) -> None:
    newest = save(tmp_path, 100_000_000)
    older = save(tmp_path, 99_999_999, keep=9)
    os.utime(newest, (0, 0))
    for stranger in ("step-00000200.old", "xstep-999999999", "step-7", "step-abc"):
        (tmp_path / stranger).mkdir()
    assert older.name == "step-99999999"
    assert latest_checkpoint(tmp_path) == newest


def test_no_checkpoint_yet_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


def test_a_damaged_newest_is_skipped_with_a_warning_and_all_damaged_is_an_error(
    tmp_path: Path, caplog
) -> None:
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    damage(new)
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == old
    assert "step-00000002/state.json" in caplog.text
    damage(old)
    with pytest.raises(DataError, match="none of its 2 checkpoints is valid"):
        latest_checkpoint(tmp_path)


def test_retention_keeps_the_newest_valid_ones_and_drops_damaged_ones_once_overtaken(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    damage(tmp_path / "step-00000003")
    save(tmp_path, 4)
    assert names(tmp_path) == ["step-00000002", "step-00000003", "step-00000004"]
    save(tmp_path, 5)
    assert names(tmp_path) == ["step-00000004", "step-00000005"]
    with pytest.raises(AssertionError, match="damaged"):
        save(tmp_path, 6, keep=1)


def test_the_best_is_kept_besides_the_newest_until_another_is_better(tmp_path: Path) -> None:
    for step, best in ((1, None), (2, 1), (3, 1), (4, 1), (5, 4), (6, 4), (7, 4)):
        save(tmp_path, step, best=best)
        kept = [number for number in (best, step - 1, step) if number]
        assert names(tmp_path) == [f"step-{number:08d}" for number in sorted(set(kept))]


def test_the_newest_step_is_that_of_a_checkpoint_with_all_its_files(tmp_path: Path) -> None:
    assert newest_step(tmp_path / "absent") == newest_step(tmp_path) == -1
    save(tmp_path, 1), save(tmp_path, 2)
    assert newest_step(tmp_path) == 2
    damage(tmp_path / "step-00000002")
    assert newest_step(tmp_path) == 1


def test_going_back_behind_a_damaged_checkpoint_never_costs_the_one_resumed_from(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, keep=3)
    tensors = tmp_path / "step-00000030" / TENSORS
    tensors.write_bytes(tensors.read_bytes()[::-1])  # right size, wrong bytes
    save(tmp_path, 25)
    assert names(tmp_path) == ["step-00000020", "step-00000025", "step-00000030"]
    assert load_checkpoint(save(tmp_path, 30))[1] == {"step": 30}
    assert names(tmp_path) == ["step-00000025", "step-00000030"]


def test_saving_a_valid_step_again_leaves_it_untouched(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    before = (path / MANIFEST).stat()
    assert save_checkpoint(tmp_path, 1, {}, {"other": 1}) == path
    assert (path / MANIFEST).stat() == before


def test_what_a_killed_writer_left_is_removed_by_the_next_save(tmp_path: Path) -> None:
    stray = tmp_path / ".tmp-step-00000009"
    stray.mkdir()
    (stray / "tensors.safetensors").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    save(tmp_path, 1)
    assert names(tmp_path) == ["step-00000001"]


def test_a_failed_deletion_only_warns(tmp_path: Path, monkeypatch, caplog) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "refused")

    save(tmp_path, 1), save(tmp_path, 2)
    monkeypatch.setattr(checkpoint, "_remove", refuse)
    assert latest_checkpoint(tmp_path) != save(tmp_path, 3)
    assert "cannot remove the old checkpoint" in caplog.text


def test_a_folder_that_cannot_be_made_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="choose another folder"):
        save(tmp_path / "file" / "checkpoints", 1)


def test_the_manifest_lists_each_file_with_size_and_digest(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / MANIFEST).read_bytes())
    assert (manifest["schema"], manifest["step"]) == (1, 3)
    assert {entry["path"]: entry["size"] for entry in manifest["files"]} == {
        file.name: file.stat().st_size for file in path.iterdir() if file.name != MANIFEST
    }
