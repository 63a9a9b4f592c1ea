"""Documents of installed sources: stable, each docstring once, nothing imported."""

from __future__ import annotations

import pytest

from nanochat.data import pydocs
from nanochat.data.lock import Selection
from nanochat.data.pydocs import _module_name, documents

SMALL = Selection(frozenset({"posixpath", "ntpath", "json", "antigravity"}), {})


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("os.py", "os"),
        ("json/__init__.py", "json"),
        ("torch/nn/modules/linear.py", "torch.nn.modules.linear"),
        ("numpy/tests/x.py", ""),
        ("numpy/_core/test_x.py", ""),
        ("setuptools/_vendor/x.py", ""),
        ("../../bin/tool.py", ""),
        ("pkg/my-script.py", ""),
        ("__init__.py", ""),
    ],
)
def test_module_names(path: str, module: str) -> None:
    assert _module_name(path) == module


def test_documents_are_rich_and_repeat_names() -> None:
    text = "\n".join(document.text for document in documents(SMALL, 1))
    assert "os.path.join(a, *p)\n\nJoin two or more pathname components" in text
    assert "json.dumps(obj, *, skipkeys, ensure_ascii" in text


def test_a_docstring_stands_once() -> None:
    texts = [" ".join(entry.text.split()) for document in documents(SMALL, 1) for entry in document.entries]
    assert len(texts) == len(set(texts))


def test_workers_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydocs, "FILES_PER_JOB", 1)
    monkeypatch.setattr(pydocs, "MIN_PARALLEL_JOBS", 2)
    assert list(documents(SMALL, 2)) == list(documents(SMALL, 1))
