"""Random input for the binding of the tokenizer crate: a result or a typed exception, never anything else.

    python tests/fuzz/bpe.py [--cases 200 | --seconds 600] [--seed 0] [--campaigns NAME ...] [--out FILE]

Prints one JSON document, and ends with 1 if a case failed. Every campaign runs in a child process: one that
dies (abort, segmentation fault, a case over CASE_SECONDS) is a failure too, and the next case starts in a
new child. A case is drawn from seed, campaign and number alone, so ``--campaigns NAME --first NUMBER
--cases 1`` repeats it (but for what earlier cases left in the cache of the encoder that they share).
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

CASE_SECONDS = 60
ADDRESS_SPACE = 8 << 30  # a length that a damaged file claims must not become an allocation
MOST_FAILURES = 20  # of a campaign, which then ends


def child(name: str, seed: int, first: int, cases: int, seconds: float) -> None:
    """Run cases of one campaign, and print a line before and after each."""
    from bpe_campaigns import CAMPAIGNS

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    case, end = CAMPAIGNS[name], time.monotonic() + seconds
    for number in range(first, first + cases):
        if time.monotonic() > end:
            return
        print(json.dumps({"start": number}), flush=True)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        try:
            said: dict[str, Any] = {"outcome": case(random.Random(f"{seed} {name} {number}"))}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pyo3's PanicException is no Exception
            said = {"failed": described(error)}
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"end": number, **said}), flush=True)


def described(error: BaseException) -> str:
    """The error, and where in the campaign it came up."""
    here = str(Path(__file__).parent)
    at = [line for line in traceback.extract_tb(error.__traceback__) if line.filename.startswith(here)][-1]
    what = f"{type(error).__module__}.{type(error).__name__}: {error}"[:800]
    what = "; ".join([what, *getattr(error, "__notes__", [])])
    return f"{what} ({Path(at.filename).name}:{at.lineno}: {at.line})"


def run_child(name: str, seed: int, first: int, cases: int, seconds: float) -> tuple[list[Any], int, str]:
    """The lines that a child printed, its exit status and the end of its stderr."""
    command = [sys.executable, __file__, "--child", name, "--seed", str(seed)]
    command += ["--first", str(first), "--cases", str(cases), "--seconds", str(seconds)]
    with tempfile.TemporaryFile() as errors:
        environment = {**os.environ, "RUST_BACKTRACE": "0"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        errors.seek(max(0, errors.tell() - 2000))
        said = errors.read().decode(errors="replace")
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode, said


def campaign(name: str, seed: int, first: int, cases: int, seconds: float) -> dict[str, Any]:
    """Run one campaign to its last case or for so many seconds, in as many children as it takes."""
    start, number, failures = time.monotonic(), first, []
    outcomes: Counter[str] = Counter()
    while number < first + cases and len(failures) < MOST_FAILURES:
        left = seconds - (time.monotonic() - start)
        if left <= 0:
            break
        lines, status, errors = run_child(name, seed, number, first + cases - number, left)
        ended = [line for line in lines if "end" in line]
        outcomes.update(line["outcome"] for line in ended if "outcome" in line)
        failures += [{"case": line["end"], "what": line["failed"]} for line in ended if "failed" in line]
        if status == 0:
            number = ended[-1]["end"] + 1 if ended else number
            break
        if not lines:
            raise RuntimeError(f"campaign {name} does not start: {errors}")
        number = lines[-1].get("start", lines[-1].get("end")) + 1
        failures.append({"case": number - 1, "what": f"the process ended with {status}: {errors[-800:]}"})
    for failure in failures:
        print(f"{name}: seed {seed}, case {failure['case']}: {failure['what']}", file=sys.stderr)
    return {
        "cases": number - first,
        "seconds": round(time.monotonic() - start, 1),
        "outcomes": dict(sorted(outcomes.items())),
        "failures": failures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="of each campaign (default: as many as there is time for)")
    parser.add_argument("--seconds", type=float, default=600, help="of all campaigns together")
    parser.add_argument("--campaigns", nargs="*", help="default: all")
    parser.add_argument("--out", type=Path, help="write the JSON document here too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cases = sys.maxsize - arguments.first if arguments.cases is None else arguments.cases
    if arguments.child:
        child(arguments.child, arguments.seed, arguments.first, cases, arguments.seconds)
        return
    from bpe_campaigns import CAMPAIGNS

    names = arguments.campaigns or list(CAMPAIGNS)
    share = arguments.seconds / len(names)
    found = {name: campaign(name, arguments.seed, arguments.first, cases, share) for name in names}
    failed = sum(len(one["failures"]) for one in found.values())
    total = {key: round(sum(one[key] for one in found.values()), 1) for key in ("cases", "seconds")}
    result = {"seed": arguments.seed, **total, "failed": failed, "campaigns": found}
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
