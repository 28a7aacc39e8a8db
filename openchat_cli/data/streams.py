"""Streams that are read from their first bytes on: unpacked, joined, or put where one can seek."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from typing import IO, Protocol, cast

# What the readers of packed files raise where such a file is broken.
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    RuntimeError,
)


class Readable(Protocol):
    """As much of a binary file as most readers need."""

    def read(self, size: int, /) -> bytes: ...


class Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head, self._rest = head, rest

    def seekable(self) -> bool:
        """It only goes on."""
        return False

    def read(self, size: int = -1, /) -> bytes:
        """At most that many bytes (all for -1), b"" at the end."""
        if not self._head:
            return self._rest.read(size)
        if size < 0:
            found, self._head = self._head, b""
            return found + self._rest.read(-1)
        found, self._head = self._head[:size], self._head[size:]
        return found


class Careful:
    """A packed stream that gives everything before a broken place, and only then its error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._error: BaseException | None = None

    def read(self, size: int, /) -> bytes:
        """That many bytes, fewer where the stream ends or breaks."""
        if self._error is not None:
            raise self._error
        parts: list[bytes] = []
        left = size
        try:
            while left and (part := self._read(left)):
                parts.append(part)
                left -= len(part)
        except BROKEN as error:
            if not parts:
                raise
            self._error = error
        return b"".join(parts)


def unpacked(stream: Readable, form: str) -> IO[bytes]:
    """The stream without its gzip, bzip2 or xz."""
    file = cast(IO[bytes], stream)
    if form == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if form == "bzip2":
        return cast(IO[bytes], bz2.BZ2File(file))
    return cast(IO[bytes], lzma.LZMAFile(file))


def spooled(stream: Readable) -> IO[bytes]:
    """The rest of a stream in a temporary file without a name; close it when done."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        shutil.copyfileobj(cast(IO[bytes], stream), file, 1 << 20)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def why(error: BaseException) -> str:
    """What a broken file's error says, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
