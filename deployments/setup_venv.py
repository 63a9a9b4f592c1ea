"""From a bare checkout to a working ``.venv``: check the system, then bring each step up to date.

Runs on the system's Python with the standard library alone (``make setup``). Every step is keyed by
the digest of what it reads, so an unchanged tree costs milliseconds. A killed run can be repeated, and
a second one at the same time waits for the first.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "setup.json"
PREFECT = VENV / "prefect"
LOCK = ROOT / "requirements-dev.lock"
CRATE = ROOT / "rustbpe"

OLDEST_PYTHON = (3, 11)
OLDEST_CARGO = (1, 85)
RUSTUP = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
UNFINISHED = "unfinished"


def main() -> int:
    """Exit code 0 when ``.venv`` is ready, 4 when the system lacks something, else the failing step's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rebuild", action="store_true", help="this Python was asked for: rebuild a .venv of another"
    )
    arguments = parser.parse_args()
    with _alone():
        stamps = _read_stamps()
        keep = _venv_is_usable(stamps, must_match=arguments.rebuild)
        missing, remedy = missing_tools(python_too=not keep)
        if missing:
            print(f"setup: missing: {', '.join(missing)}. Install with:\n    {remedy}", file=sys.stderr)
            return 4
        try:
            _bring_up_to_date({} if not keep else stamps)
        except subprocess.CalledProcessError as error:
            print(f"setup: failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
            return error.returncode or 1
    return 0


def missing_tools(*, python_too: bool = True) -> tuple[list[str], str]:
    """What the system lacks, and the one line that installs it."""
    missing, packages, commands = [], [], []
    for tool, package in (("git", "git"), ("make", "make"), ("cc", "build-essential")):
        if not shutil.which(tool):
            missing.append("a C compiler (cc)" if tool == "cc" else tool)
            packages.append(package)
    if python_too and sys.version_info < OLDEST_PYTHON:
        missing.append(
            f"Python >= 3.11 (found {sys.version.split()[0]}; name one: make setup PYTHON=python3.12)"
        )
        packages += ["python3", "python3-venv"]
    elif python_too and not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        missing.append("the venv module of Python")
        packages.append("python3-venv")
    cargo = cargo_version()
    if cargo is None or cargo < OLDEST_CARGO:
        missing.append(f"cargo >= 1.85 ({'found ' + '.'.join(map(str, cargo)) if cargo else 'not found'})")
        commands.append("rustup update stable" if cargo and shutil.which("rustup") else RUSTUP)
        packages += ["curl"] if commands[0] is RUSTUP and not shutil.which("curl") else []
    if packages:
        sudo = "" if os.geteuid() == 0 else "sudo "
        install = f"{sudo}apt-get install -y" if shutil.which("apt-get") else "<your package manager> install"
        commands.insert(0, f"{install} {' '.join(packages)}")
    return missing, " && ".join(commands)


def cargo_version() -> tuple[int, int] | None:
    """(major, minor) of the cargo on PATH, or None."""
    if not shutil.which("cargo"):
        return None
    answer = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"cargo (\d+)\.(\d+)", answer)
    return (int(found[1]), int(found[2])) if found else None


def _bring_up_to_date(stamps: dict[str, str]) -> None:
    """Run the steps whose sources changed; each step's digest contains the one before it."""
    if not stamps:
        _say("creating .venv")
        _run(sys.executable, "-m", "venv", "--clear", VENV)
        stamps["venv"] = _python_version()
        _write_stamps(stamps)
    digest = stamps["venv"]
    for name, sources, build in (
        ("packages", [LOCK], _sync_packages),
        ("database", [], _create_prefect_database),
        ("project", [ROOT / "pyproject.toml"], _install_project),
        ("rustbpe", _crate_sources(), _build_crate),
    ):
        digest = _digest(digest, sources)
        if stamps.get(name) == digest:
            continue
        started = time.monotonic()
        _say(f"{name} ...")
        _write_stamps({**stamps, name: UNFINISHED})
        build()
        stamps[name] = digest
        _write_stamps(stamps)
        _say(f"{name} done in {time.monotonic() - started:.0f} s")


def _sync_packages() -> None:
    """Exactly the lock's packages, each checked against its hashes; the lock pins uv itself too."""
    uv_pin = re.search(r"^uv==.*(?:\n +--hash.*)*", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if not uv_pin:
        raise SystemExit(f"setup: {LOCK.name} does not pin uv: run make lock")
    bootstrap = VENV / "uv.lock"
    bootstrap.write_text(uv_pin[0], encoding="utf-8")
    _run(VENV_PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", bootstrap)
    # Compiled here, not at first import: where Python may not write .pyc files, importing torch costs 5 s.
    _uv("sync", "--require-hashes", "--compile-bytecode", LOCK)


def _create_prefect_database() -> None:
    """An empty database for Prefect's embedded server to copy: making one takes it 15 s."""
    shutil.rmtree(PREFECT, ignore_errors=True)
    url = f"sqlite+aiosqlite:///{PREFECT / 'prefect.db'}"
    _run(VENV / "bin" / "prefect", "server", "database", "upgrade", "--yes", quiet=True,
         PREFECT_HOME=str(PREFECT), PREFECT_SERVER_DATABASE_CONNECTION_URL=url)  # fmt: skip


def _install_project() -> None:
    _uv("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)


def _build_crate() -> None:
    """One abi3 wheel for every Python; installed by path, because a stranger owns the name elsewhere."""
    wheels = CRATE / "target" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(VENV / "bin" / "maturin", "build", "--quiet", "--release", "--manifest-path", CRATE / "Cargo.toml",
         "--interpreter", VENV_PYTHON, "--out", wheels)  # fmt: skip
    (wheel,) = wheels.glob("*.whl")
    _uv("install", "--quiet", "--no-deps", "--force-reinstall", wheel)


def _crate_sources() -> list[Path]:
    return sorted(
        path for path in CRATE.rglob("*")
        if path.suffix in {".rs", ".toml", ".lock", ".pyi"} and "target" not in path.relative_to(CRATE).parts
    )  # fmt: skip


def _venv_is_usable(stamps: dict[str, str], *, must_match: bool) -> bool:
    """False: build it anew, because it is absent, half made, or of a Python other than the one asked for."""
    if not VENV_PYTHON.exists() or "venv" not in stamps or stamps.get("packages") == UNFINISHED:
        return False
    return not must_match or stamps["venv"] == _python_version()


def _python_version() -> str:
    return sys.version.split()[0]


def _digest(before: str, sources: list[Path]) -> str:
    digest = hashlib.sha256(before.encode())
    for path in sources:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _read_stamps() -> dict[str, str]:
    try:
        return dict(json.loads(STAMPS.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _write_stamps(stamps: dict[str, str]) -> None:
    temporary = STAMPS.with_suffix(".tmp")
    temporary.write_text(json.dumps(stamps, indent=1), encoding="utf-8")
    os.replace(temporary, STAMPS)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other set-up works on this checkout; the kernel drops the lock of a killed one."""
    with (ROOT / "pyproject.toml").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another make setup is at work here: waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _uv(command: str, *arguments: str | Path) -> None:
    _run(VENV / "bin" / "uv", "pip", command, "--python", VENV_PYTHON, *arguments)


def _run(*command: str | Path, quiet: bool = False, **extra: str) -> None:
    # An activated other environment must not redirect pip, uv or maturin.
    environment = {
        key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}
    }
    output = subprocess.DEVNULL if quiet else None
    subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment | extra, stdout=output, check=True
    )


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
