"""Pickles that would do something, and what they would do: make a file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Calls:
    """Pickled as a call: a reader that trusts it makes the call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def _through_getattr(mark: Path) -> Calls:
    """``getattr(Path(mark), "touch")()`` without a name that a list of bad ones would hold."""
    return Calls(map, Calls(getattr, Path, "touch"), [mark])


def programs(mark: Path) -> dict[str, Any]:
    """Name -> an object whose pickle would make the file ``mark``, or at least call something."""
    import os
    import subprocess

    return {
        "os.system": Calls(os.system, f"touch {mark}"),
        "eval": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Calls(exec, f"open({str(mark)!r}, 'w')"),
        "open": Calls(open, str(mark), "w"),
        "subprocess": Calls(subprocess.check_call, ["touch", str(mark)]),
        "getattr": _through_getattr(mark),
        "nested": {"a": [({"b": Calls(os.system, f"touch {mark}")},)]},
        "a class": Path(mark),
    }


def raw(mark: Path) -> dict[str, bytes]:
    """Name -> instructions written by hand, for which Python has no object."""
    command = f"touch {mark}".encode()
    text = b"X" + len(command).to_bytes(4, "little") + command
    return {
        "GLOBAL and REDUCE": b"\x80\x02cos\nsystem\n(" + text + b"tR.",
        "INST": b"(" + text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "NEWOBJ": b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\n" + text + b"\x85}\x92.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "STACK_GLOBAL of the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93"
        + text
        + b"\x85R.",
        "EXT1": b"\x80\x02\x82\x01.",
        "a persistent id": b"\x80\x02" + text + b"Q.",
        "a name with dots": b"\x80\x04\x8c\x0dtiktoken.core\x8c\x19Encoding.__init__.__call__\x93.",
        "a name with a space": b"ccollections OrderedDict\nos\n.",
        "state of a class": b"\x80\x02ctiktoken.core\nEncoding\n}b.",
        "state twice": b"\x80\x02ctiktoken.core\nEncoding\n)\x81}b}b.",
        "a call of the allowed class": b"\x80\x02ctiktoken.core\nEncoding\n)R.",
        "an encoding by name": b"\x80\x02ctiktoken.core\nEncoding\n)\x81X\x04\x00\x00\x00gpt2b.",
        "no pickle": b"hello",
        "nothing": b"",
        "cut": pickle.dumps({"a": 1})[:-1],
        "no stack": b"\x80\x02R.",
        "no memo": b"\x80\x02h\x05.",
        "no mark": b"\x80\x02}u.",
        "a key that is none": b"\x80\x02}}}s.",
        "a huge length": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        "text that is none": b"\x80\x04\x8c\x02\xff\xfe.",
    }
