"""The one exception tree of the project.

NanochatError          something a user can act on: one line, a hint, an exit code (1)
├── UsageError         a wrong command, key or value (2)
├── DataError          bad data or a damaged artifact (3)
└── ResourceError      something is missing: file, space, permission, device, network (4)

``assert`` and other exceptions are for our own bugs and end in a traceback.
"""

from __future__ import annotations


class NanochatError(Exception):
    """An error with one line for the user: what was wrong, the value, and (``hint``) what to do."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type[NanochatError], tuple[str, str]]:
        return (type(self), (self.message, self.hint))


class UsageError(NanochatError):
    """A wrong command, key or value."""

    code = "usage"
    exit_code = 2


class DataError(NanochatError):
    """Bad data, or an artifact that fails verification."""

    code = "bad_data"
    exit_code = 3


class ResourceError(NanochatError):
    """Something needed is missing or refused: file, space, permission, device, network."""

    code = "missing_resource"
    exit_code = 4


BY_EXIT_CODE: dict[int, type[NanochatError]] = {
    cls.exit_code: cls for cls in (NanochatError, UsageError, DataError, ResourceError)
}
