"""A folder of each format, from the files of an artifact; its README.md is true."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import ResourceError, UsageError
from nanochat.engine.model_folder import open_model
from nanochat.export.readme import TRIED
from nanochat.export.write import FORMATS, Exported, export
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.train.loop import Curve
from nanochat.train.model_folder import save_model

FILES = {
    "safetensors": {"config.json", "model.safetensors", "tokenizer.json"},
    "tokenizer-json": {"tokenizer.json", "tokenizer_config.json"},
    "tiktoken": {"nanochat.tiktoken", "nanochat_encoding.py"},
    "hf": {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    },
}  # fmt: skip
CODE = {"configuration_nanochat_pipeline.py", "modeling_nanochat_pipeline.py"}


@pytest.fixture
def source(random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., Path]:
    """``source(arch="hf")``: the files of a model artifact; ``source(None)``: of a tokenizer."""

    def make(arch: str | None = "current") -> Path:
        folder = tmp_path / "source"
        folder.mkdir()
        tokenizer.save(folder)
        if arch is not None:
            model = random_model(arch=arch)
            save_model(
                model, folder, folder / "tokenizer.json", Curve("val_bpb"), {"stage": "base", "steps": 1}
            )
        return folder

    return make


@pytest.mark.parametrize("arch", ["current", "hf"])
@pytest.mark.parametrize("format", FORMATS)
def test_each_format_has_its_files_and_a_readme_that_works(
    format: str, arch: str, source: Callable[..., Path], tmp_path: Path
) -> None:
    made = export(source(arch), format, tmp_path / "made", name="sft/demo@v1")
    code = CODE if (format, arch) == ("hf", "current") else set()
    assert (
        set(made.files)
        == FILES[format] | code | {"README.md"}
        == {path.name for path in (tmp_path / "made").iterdir()}
    )
    assert made.bytes == sum(path.stat().st_size for path in (tmp_path / "made").iterdir())
    assert bool(made.beyond_stock) == bool(code)
    text = (tmp_path / "made" / "README.md").read_text()
    assert text.startswith("# sft/demo@v1\n")
    assert ("trust_remote_code=True" in text) == bool(code)
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    subprocess.run(
        [sys.executable, "-c", program.replace("FOLDER", ".")], cwd=tmp_path / "made",
        check=True, capture_output=True,
    )  # fmt: skip


def test_only_a_model_that_learned_to_chat_is_shown_chatting(
    source: Callable[..., Path], tmp_path: Path
) -> None:
    """A base model is shown going on with a text that begins as all did in training."""
    folder = source()
    for name in ("base/demo@v1", "mid/demo@v1", "sft/demo@v1", "rl/demo@v1"):
        made = tmp_path / name
        made.parent.mkdir()
        export(folder, "hf", made, name=name)
        text = (made / "README.md").read_text()
        (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        assert ("apply_chat_template" in program) == (not name.startswith("base/"))
        assert ('tokenizer("<|bos|>' in program) == name.startswith("base/")
        assert "begins with `<|bos|>`" in text
        if name.startswith("base/"):
            assert "not\nlearned to chat" in text
            subprocess.run(
                [sys.executable, "-c", program.replace("FOLDER", ".")], cwd=made,
                check=True, capture_output=True,
            )  # fmt: skip


def test_the_readme_says_the_transformers_that_the_tests_run_with() -> None:
    locked = (Path(__file__).parents[4] / "requirements-dev.lock").read_text(encoding="utf-8")
    assert f"\ntransformers=={TRIED} " in locked


def test_the_files_as_they_are_open_as_a_model(source: Callable[..., Path], tmp_path: Path) -> None:
    folder = source()
    export(folder, "safetensors", tmp_path / "made", name="x")
    for name in FILES["safetensors"]:
        assert (tmp_path / "made" / name).read_bytes() == (folder / name).read_bytes()
    open_model(tmp_path / "made")


@pytest.mark.parametrize("format", ["tokenizer-json", "tiktoken"])
def test_a_tokenizer_goes_alone(format: str, source: Callable[..., Path], tmp_path: Path) -> None:
    assert isinstance(export(source(None), format, tmp_path / "made", name="tokenizer/x@v1"), Exported)


@pytest.mark.parametrize("format", ["safetensors", "hf"])
def test_a_tokenizer_is_no_model(format: str, source: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tokenizer/x@v1 is no model"):
        export(source(None), format, tmp_path / "made", name="tokenizer/x@v1")
    assert not (tmp_path / "made").exists()


def test_a_full_disk_leaves_nothing_and_is_one_line(source: Callable[..., Path], tmp_path: Path) -> None:
    """In a process that may not write files as large as the weights, which fails in the same places."""
    folder = source()
    program = (
        "import resource, sys; from pathlib import Path; from nanochat.export.write import export\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: export(Path(sys.argv[1]), sys.argv[3], Path(sys.argv[2]), name='x')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    for format in ("hf", "safetensors"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder), str(tmp_path / "made"), format],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.startswith(f"{ResourceError.__name__} ")
        assert len(done.stdout.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
