"""The errors that a user can do something about.

    OpenChatError            exit 1  the work failed
    ├── InputError           exit 1  a file or row is missing, unreadable or of the wrong kind
    ├── UsageError           exit 2  options or configuration that can't work
    │   └── MissingExtraError exit 2  an optional package is not installed
    └── PartialError         exit 3  done, but some rows failed or, under --strict, were dropped

Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable


class OpenChatError(Exception):
    """One line that says what is wrong and where; `hint` says how to mend it."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(OpenChatError):
    """What was given to read is missing, unreadable or of the wrong kind."""


class UsageError(OpenChatError):
    """Options or configuration that can't work, whatever the data."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A command needs a package that the base install leaves out."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the '{extra}' extra, which is not installed",
            hint=f"pip install 'openchat-cli[{extra}]'",
        )


class PartialError(OpenChatError):
    """The outputs are whole, but some rows failed."""

    exit_code = 3


def need(what: str, extra: str, *packages: str) -> None:
    """Raise MissingExtraError where a package is not installed; none of them is imported."""
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise MissingExtraError(what, extra)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as "did you mean 'openchat'? known: a, b", for a misspelt name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    listing = f"known: {', '.join(names)}"
    return f"did you mean '{close[0]}'? {listing}" if close else listing
