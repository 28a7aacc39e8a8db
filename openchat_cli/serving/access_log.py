"""The log that machines read: one JSON line for each request, in a file that may be rotated."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from openchat_cli.core.errors import OpenChatError

STDOUT = Path("-")


class JsonLines(logging.Handler):
    """Writes the entries of requests, and what else is logged as a message.

    Appends whole lines only. Where the file was moved or removed meanwhile, as logrotate does, the
    next line begins a new one; so no signal is needed to reopen it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._file = self._open()

    def _open(self) -> IO[bytes]:
        # Unbuffered and in append mode: a line is one write, whole even beside other writers.
        # Nobody else's: client addresses are in it, and with --log-content what users say.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return open(os.open(self._path, flags, 0o600), "ab", buffering=0)  # noqa: PTH123  # a descriptor, kept open

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            self._reopen_if_moved()
            self._file.write(line_of(record))
        except Exception:
            self.handleError(record)

    def _reopen_if_moved(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        here = os.fstat(self._file.fileno())
        if found is None or (found.st_dev, found.st_ino) != (here.st_dev, here.st_ino):
            self._file.close()
            self._file = self._open()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class Standard(logging.Handler):
    """The same on standard output, for a container's collector."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            sys.stdout.write(line_of(record).decode())
            sys.stdout.flush()


def line_of(record: logging.LogRecord) -> bytes:
    """The JSON line, newline included."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    entry = getattr(record, "entry", None)
    said = {"message": record.getMessage()} if entry is None else entry
    shown = {"time": at, "level": record.levelname.lower(), "log": record.name, **said}
    return (json.dumps(shown, ensure_ascii=True) + "\n").encode()


@contextlib.contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Log there while the block runs; OpenChatError where the file can't be written."""
    if path is None:
        yield
        return
    try:
        handler = Standard() if path == STDOUT else JsonLines(path)
    except OSError as error:
        raise OpenChatError(f"{path}: can't be written ({error.strerror})") from None
    logger = logging.getLogger("openchat")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(before or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
