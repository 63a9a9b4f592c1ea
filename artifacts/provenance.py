"""How an artifact came to be: commit, uncommitted changes, command, versions, hardware. No host names."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from artifacts.atomic import digest_into
from artifacts.manifest import Hardware, Provenance
from artifacts.redact import redact_command, redact_json

PACKAGES = (
    "torch",
    "numpy",
    "prefect",
    "pyarrow",
    "tiktoken",
    "safetensors",
    "pydantic",
    "nanochat-pipeline",
)
_TIMEOUT_S = 30


def collect(
    project_root: Path, *, command: Sequence[str] | None = None, settings: dict[str, Any] | None = None
) -> Provenance:
    """Provenance of what runs now. ``command`` is sys.argv by default; secrets and machine paths are cut.

    ``settings``: what else may differ between runs, such as the resolved dtype, threads and ranks.
    """
    arguments = list(sys.argv if command is None else command)
    if arguments:
        arguments[0] = Path(arguments[0]).name
    return Provenance(
        # An image has no checkout: it is told its commit when it is built.
        commit=_git(project_root, "rev-parse", "HEAD") or os.environ.get("NANOCHAT_COMMIT") or None,
        dirty=_dirty(project_root),
        command=redact_command(arguments),
        versions=versions(),
        hardware=hardware(),
        settings=redact_json(settings or {}),
    )


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that matter; absent ones are left out."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}".lower(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> Hardware:
    """CPU model, usable cores and GPU models."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    return Hardware(cpu=_cpu_model(), cores=cores, gpus=_gpus())


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    match = re.search(r"^(?:model name|Hardware|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _gpus() -> tuple[str, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = _run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], None)
    return tuple(line.strip() for line in listed.splitlines() if line.strip())


def _dirty(project_root: Path) -> str | None:
    """sha256 of the difference to the commit, untracked files included; None if there is none."""
    difference = _git(project_root, "diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD", "--", ".")
    untracked = _git(project_root, "ls-files", "--others", "--exclude-standard", "-z", "--", ".").split("\0")
    digest = hashlib.sha256(difference.encode("utf-8", "surrogateescape"))
    for name in sorted(filter(None, untracked)):
        path = project_root / name
        if path.is_file():
            digest.update(f"\0{name}\0{digest_into(path)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if difference or any(untracked) else None


def _git(project_root: Path, *arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    return _run(["git", "-C", str(project_root), *arguments], {**os.environ, "GIT_OPTIONAL_LOCKS": "0"})


def _run(command: list[str], environment: dict[str, str] | None) -> str:
    """The output of a program, or "" if it fails: provenance is best effort and never stops a run."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape").strip("\n") if done.returncode == 0 else ""
