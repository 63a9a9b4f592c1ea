"""Nothing that turns data into code: a static rule over the syntax tree of every product module."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

PICKLING_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
}
FORBIDDEN_ARGUMENTS = {("shell", True), ("verify", False), ("allow_pickle", True), ("weights_only", False)}
ALLOWED = {
    # import of nanochat's checkpoints: weights_only, and after its own look at every instruction
    "nanochat/export/torch_file.py": {"torch.load"},
}
"""Path -> what is allowed there; each entry needs its reason beside it."""


def violations(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PICKLING_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLING_MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                yield name
            for keyword in node.keywords:
                if (
                    isinstance(keyword.value, ast.Constant)
                    and (keyword.arg, keyword.value.value) in FORBIDDEN_ARGUMENTS
                ):
                    yield f"{keyword.arg}={keyword.value.value}"


@pytest.mark.criterion("T93")
def test_no_module_turns_data_into_code(sources: dict) -> None:
    found = {path: set(violations(tree)) - ALLOWED.get(path, set()) for path, tree in sources.items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.criterion("T93")
@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from dill import loads", "torch.load('x')", "yaml.load(text)", "eval('1')",
        "exec(code)", "run(ls, shell=True)", "httpx.get(url, verify=False)", "np.load(f, allow_pickle=True)",
    ],
)  # fmt: skip
def test_the_rule_sees(code: str) -> None:
    assert list(violations(ast.parse(code)))


@pytest.mark.criterion("T93")
@pytest.mark.parametrize(
    "code", ["model.eval()", "yaml.safe_load(text)", "ast.literal_eval(x)", "run(['ls'], shell=False)"]
)
def test_the_rule_lets_pass(code: str) -> None:
    assert not list(violations(ast.parse(code)))
