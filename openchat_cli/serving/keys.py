"""API keys: read from a file, compared in constant time, never shown."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from openchat_cli.core.errors import InputError


class Keys:
    """The keys that may ask; none means that everybody may."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode("utf-8", "surrogateescape")) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, authorization: bytes) -> bool:
        """Whether an Authorization header carries one of the keys.

        Every key is compared whole, so that the time taken tells nothing about them.
        """
        scheme, _, key = authorization.partition(b" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == b"bearer" and any(matches)


def _digest(key: bytes) -> bytes:
    # Equal lengths: compare_digest tells apart texts of different length by time.
    return hashlib.sha256(key).digest()


def exposed(path: Path) -> bool:
    """Whether other users of this machine may read the file."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


def read_key_file(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line; blank lines and lines with # are skipped."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    stripped = map(str.strip, lines)
    keys = tuple(line for line in stripped if line and not line.startswith("#"))
    if not keys:
        raise InputError(f"{path}: no key in it", "one key a line")
    return keys
