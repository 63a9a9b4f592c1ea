"""The console script ``nanochat``: commands are loaded when they are called."""

from __future__ import annotations

import gc
import json
import os
import sys

from artifacts.errors import NanochatError, UsageError

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit: 0 ok, 1 failed, 2 usage, 3 bad data, 4 missing resource, 130 interrupted."""
    gc.set_threshold(50_000, 20, 100)  # of what imports and lists make, nearly all stays
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    if "--allow-unsafe-store" in arguments:
        os.environ["NANOCHAT_ALLOW_UNSAFE_STORE"] = "1"  # stages and workers started here shall know it too
    arguments = [item for item in arguments if item not in ("--debug", "--allow-unsafe-store")]
    try:
        code = _dispatch(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us is gone
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except NanochatError as error:
        if debug:
            raise
        _print_error(error.code, error.message, error.hint, as_json="--json" in arguments)
        code = error.exit_code
    except Exception as error:
        if debug:
            raise
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        _print_error("bug", message, "--debug shows the traceback", as_json="--json" in arguments)
        code = 1
    raise SystemExit(code)


def _dispatch(arguments: list[str]) -> int:
    from flows.cli.commands import overview

    if not arguments or arguments in (["--help"], ["-h"], ["help"]):
        print(overview())
        return 0
    from cyclopts import CycloptsError

    from flows.cli.app import build_app

    try:
        result = build_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise UsageError(" ".join(str(error).split()), "see nanochat COMMAND --help") from None
    return result if isinstance(result, int) else 0


def _print_error(code: str, message: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        text = json.dumps({"error": {"code": code, "message": message, "hint": hint}})
    else:
        text = f"error: {message}" + (f" ({hint})" if hint else "")
    print(text, file=sys.stderr)
