"""A folder of data anywhere fsspec reaches (local, http, s3, …): what is in it, and copies of its files."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from artifacts.errors import ResourceError, UsageError
from artifacts.paths import home, relative_path
from artifacts.redact import redact_text
from nanochat.data.download import download

_SIGNS = ("ETag", "etag", "LastModified", "mtime", "created")  # how file systems say that a file changed


class Folder:
    """``url``: a path or an fsspec URL. Errors never show the secrets that a URL may hold."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        if not url:
            raise UsageError("path is not set", "give a folder or an fsspec URL")
        self.url, self.shown = url.rstrip("/"), redact_text(url.rstrip("/"))
        try:
            self._fs, root = url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{self.shown}: {redact_text(str(error))}") from None
        self._root = root.rstrip("/")

    @property
    def is_http(self) -> bool:
        """True for http(s), where files are fetched with resume."""
        return self.url.startswith(("http://", "https://"))

    @cached_property
    def _found(self) -> dict[str, dict[str, Any]]:
        try:
            found = self._fs.find(self._root, detail=True)
        except Exception as error:
            raise ResourceError(f"{self.shown}: cannot list it ({type(error).__name__})") from error
        inside = {name[len(self._root) :].lstrip("/"): info for name, info in found.items()}
        if "" in inside:
            raise UsageError(f"{self.shown} is a file", "give the folder that it lies in")
        kept = {name: info for name, info in sorted(inside.items()) if "/." not in f"/{name}"}
        if not kept:
            raise ResourceError(f"{self.shown}: no such folder, or nothing in it", "check the path")
        return kept

    @property
    def files(self) -> list[str]:
        """Paths of all files inside, sorted; hidden ones are left out."""
        return list(self._found)

    def identity(self) -> str:
        """A digest that changes when a file comes, goes or is written again; nothing is read."""
        listing = {
            name: [info.get("size"), next((str(info[sign]) for sign in _SIGNS if sign in info), "")]
            for name, info in self._found.items()
        }
        return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()

    def copy(self, name: str, target: Path) -> Path:
        """Copy the file ``name`` to ``target``. Over http it is fetched into the download cache first."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.is_http:
                key = hashlib.sha256(f"{self.shown} {self.identity()}".encode()).hexdigest()[:16]
                cached = home() / "downloads" / f"mirror-{key}" / relative_path(name)
                shutil.copyfile(download(f"{self.url}/{name}", cached), target)
            else:
                self._fs.get_file(f"{self._root}/{name}", str(target))
        except OSError as error:
            raise ResourceError(f"{self.shown}/{name}: cannot read it ({type(error).__name__})") from error
        return target
