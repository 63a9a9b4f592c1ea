"""One Python source file in, its documented objects out; parsed with ``ast``, never imported.

Besides ordinary docstrings it reads the two ways in which compiled modules are documented from Python,
``add_docstr(torch.abs, "…")`` and ``add_newdoc("numpy", "abs", "…")``, and the help topics of ``pydoc``.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nanochat.data.prose import clean

MIN_CHARS = 24
MIN_DOCUMENTED_SHARE = 0.05  # parsing the files below it is a quarter of the time for 1.6% of the text
MAX_SIGNATURE_CHARS = 160
_TRIPLE_QUOTE = re.compile(rb'"""|\'\'\'')
_TOPICS = "pydoc_data.topics"
_ALIASES = {"posixpath": "os.path"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Entry(NamedTuple):
    """A documented object: ``heading`` is its name with the signature, ``text`` its clean docstring."""

    name: str
    kind: str  # module, class, function, method, property, builtin or topic
    arguments: tuple[str, ...]
    heading: str
    text: str


def parse_file(path: Path, module: str) -> list[Entry]:
    """Entries of one file in source order; empty for a file that is not valid Python here."""
    source = path.read_bytes()
    if module != _TOPICS and not _is_documented(source):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's source
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates and Python 2 sources lie in some packages
        return []
    if module == _TOPICS:
        found: Iterator[Entry] = _topics(tree)
    else:
        found = _module(tree, _ALIASES.get(module, module))
    return [entry for entry in found if len(entry.text) >= MIN_CHARS]


def _is_documented(source: bytes) -> bool:
    """Cheap guess before parsing: is enough of the file between triple quotes?"""
    quoted = _TRIPLE_QUOTE.split(source)[1::2]
    return sum(map(len, quoted)) > MIN_DOCUMENTED_SHARE * len(source)


def _module(tree: ast.Module, name: str) -> Iterator[Entry]:
    if text := ast.get_docstring(tree, clean=False):
        yield Entry(name, "module", (), name, clean(text))
    yield from _body(tree.body, name, owner=None)


def _body(body: list[ast.stmt], scope: str, owner: ast.ClassDef | None) -> Iterator[Entry]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _class(node, f"{scope}.{node.name}")
        elif isinstance(node, Function):
            yield from _function(node, f"{scope}.{node.name}", owner)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _added_docs(node.value)
        elif isinstance(node, ast.If | ast.Try):
            handlers = [handler.body for handler in getattr(node, "handlers", [])]
            for block in (node.body, *handlers, node.orelse):
                yield from _body(block, scope, owner)


def _class(node: ast.ClassDef, name: str) -> Iterator[Entry]:
    if text := ast.get_docstring(node, clean=False):
        methods = [item for item in node.body if isinstance(item, Function)]
        init = next((method for method in methods if method.name == "__init__"), None)
        arguments = _arguments(init)[1:] if init else ()
        heading = _heading(name, init, skip_self=True) if init else name
        yield Entry(name, "class", arguments, heading, clean(text))
    yield from _body(node.body, name, node)


def _function(node: Function, name: str, owner: ast.ClassDef | None) -> Iterator[Entry]:
    text = ast.get_docstring(node, clean=False)
    if not text:
        return
    decorators = {ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in node.decorator_list}
    if any("property" in decorator for decorator in decorators):
        yield Entry(name, "property", (), name, clean(text))
        return
    bound = owner is not None and "staticmethod" not in decorators
    arguments = _arguments(node)[1:] if bound else _arguments(node)
    kind = "method" if owner else "function"
    yield Entry(name, kind, arguments, _heading(name, node, skip_self=bound), clean(text))


def _arguments(node: Function) -> tuple[str, ...]:
    spec = node.args
    names = [*spec.posonlyargs, *spec.args, spec.vararg, *spec.kwonlyargs, spec.kwarg]
    return tuple(argument.arg for argument in names if argument)


def _heading(name: str, node: Function, *, skip_self: bool) -> str:
    """``name(a, b=1, *args)``; without defaults when the full signature would be long."""
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(positional) - len(spec.defaults)) + spec.defaults
    parts = [_with_default(argument, default) for argument, default in zip(positional, defaults, strict=True)]
    if skip_self and parts:
        parts = parts[1:]
    if spec.vararg or spec.kwonlyargs:
        parts.append(f"*{spec.vararg.arg}" if spec.vararg else "*")
    parts += [_with_default(a, d) for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    if spec.kwarg:
        parts.append(f"**{spec.kwarg.arg}")
    heading = f"{name}({', '.join(parts)})"
    if len(heading) <= MAX_SIGNATURE_CHARS:
        return heading
    return f"{name}({', '.join(part.split('=')[0] for part in parts)})"


def _with_default(argument: ast.arg, default: ast.expr | None) -> str:
    return argument.arg if default is None else f"{argument.arg}={ast.unparse(default)}"


def _added_docs(call: ast.Call) -> Iterator[Entry]:
    """Documentation of compiled objects, attached by a call at module level."""
    function = ast.unparse(call.func).rsplit(".", 1)[-1].lstrip("_")
    if function == "add_docstr" and len(call.args) == 2:
        text = _text_of(call.args[1])
        name = ast.unparse(call.args[0])
        if text and name.replace(".", "").replace("_", "").isalnum():
            yield Entry(name, "builtin", (), name, clean(text))
    elif function == "add_newdoc" and len(call.args) == 3:
        place, name, docs = (_literal(argument) for argument in call.args)
        pairs = [docs] if isinstance(docs, tuple) else docs if isinstance(docs, list) else [("", docs)]
        for attribute, text in pairs:
            if isinstance(text, str):
                full = ".".join(part for part in (str(place), str(name), attribute) if part)
                yield Entry(full, "builtin", (), full, clean(text))


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _text_of(node: ast.expr) -> str:
    """The text of ``"…"``, ``"…".format(…)`` or ``"…" + "…"``, without lines that have placeholders."""
    if isinstance(node, ast.BinOp):
        return _text_of(node.left) + _text_of(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        lines = _text_of(node.func.value).split("\n")
        return "\n".join(line for line in lines if "{" not in line)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _topics(tree: ast.Module) -> Iterator[Entry]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            for name in sorted(topics):
                yield Entry(f"help({name!r})", "topic", (), f"Help on {name}", clean(topics[name]))
