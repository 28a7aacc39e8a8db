"""Files of JSON: reading with line numbers, writing whole or not at all, the append journal.

`-` is stdin or stdout, names that end in `.gz` are compressed, and every output appears under its
own name only when it is complete (written beside, then renamed).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Self, cast

from openchat_cli.core.errors import InputError, OpenChatError, UsageError

STDIO = Path("-")
_READABLE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
Json = Any  # what json.loads gives: no closed type exists for it


class NotRowError(InputError):
    """A line that is no row; `line` holds its bytes, by which the file may be known."""

    def __init__(self, message: str, hint: str | None = None, *, line: bytes) -> None:
        super().__init__(message, hint)
        self.line = line


def dumps(value: Json) -> str:
    """One line of JSON, text kept readable; lone surrogates are escaped, NaN is refused."""
    return line(value)[:-1].decode()


def line(value: Json) -> bytes:
    """The same as the bytes of a file, with its end."""
    text = _READABLE.encode(value)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


# --- reading ---


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[BinaryIO]:
    """Bytes of a file, of a `.gz` file, or of stdin for `-`; failures name the file."""
    try:
        if path == STDIO:
            yield sys.stdin.buffer
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as packed:
                yield cast(BinaryIO, packed)
        else:
            with path.open("rb") as plain:
                yield plain
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, a file was expected") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from None
    except PermissionError:
        raise InputError(f"{path}: not readable (permission denied)") from None


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Json]]]:
    """(line number from 1, row) for each line of a JSONL file; blank lines are skipped.

    Raises InputError with the line of anything that is not a JSON object in UTF-8.
    """
    return ((number, row) for number, _, row in read_lines(path))


def read_lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Json]]]:
    """As `read_rows`, with the line's own bytes between the number and the row."""
    with open_input(path) as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if line.strip():
                yield number, line, _row(path, number, line)


def _row(path: Path, number: int, line: bytes) -> dict[str, Json]:
    where = f"{path}:{number}"
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        message = f"{where}: not UTF-8 (byte {error.start})"
        raise NotRowError(message, line=line) from None
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
        hint = "one JSON object a line is expected; is the file cut off, or JSON rather than JSONL?"
        raise NotRowError(f"{where}: not JSON ({reason})", hint, line=line) from None
    if not isinstance(row, dict):
        message = f"{where}: a JSON object was expected, found {type(row).__name__}"
        raise NotRowError(message, line=line)
    return row


def read_json(path: Path) -> Json:
    """The one JSON value a file holds."""
    with open_input(path) as stream:
        data = stream.read()
    try:
        return json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON (nested too deep)") from None


# --- writing ---


def claim(outputs: Iterable[Path], *, force: bool) -> None:
    """Make the folders of the outputs; refuse files that are already there unless `force`."""
    for path in outputs:
        if path == STDIO:
            continue
        if path.exists() and not force:
            raise UsageError(f"{path}: already there", "add --force to write it anew")
        make_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, or say why it can't be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path}: a folder is needed here, but a file is in the way") from None
    except OSError as error:
        raise OpenChatError(f"{path}: can't make this folder ({error.strerror})") from None


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[BinaryIO]:
    """A binary stream whose bytes appear at `path` when the block ends without an exception.

    The bytes go to a file beside `path`, which is renamed at the end and removed on failure.
    `-` writes to stdout as it goes; what is not a regular file (/dev/null) is written in place.
    """
    if path == STDIO:
        with _stdout() as stream:
            yield stream
        return
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                yield stream
            return
        with _beside(path) as stream:
            yield stream
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).parent == path.parent:
            raise OpenChatError(f"{path}: can't be written ({error.strerror})") from error
        raise


@contextlib.contextmanager
def _stdout() -> Iterator[BinaryIO]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # a reader that has seen enough: nothing to tell
    except OSError as error:
        if error.filename is None:
            raise OpenChatError(f"stdout: can't be written ({error.strerror})") from error
        raise


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.suffix == ".gz":
                # mtime 0: the same rows give the same bytes.
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_rows(path: Path, rows: Iterable[dict[str, Json]]) -> int:
    """Write rows as JSONL, whole or not at all; gives how many there were."""
    count = 0
    with atomic_output(path) as stream:
        for row in rows:
            stream.write(dumps(row).encode() + b"\n")
            count += 1
    return count


def write_json(path: Path, value: Json) -> None:
    """Write one value as indented JSON, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_output(path) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))


# --- the journal ---


class Journal:
    """An append-only JSONL file of finished work, keyed by one field, for one writer at a time.

    A row is on the disk when `append` returns. A tail that a kill tore is cut off on opening, so
    that a rerun repeats at most what was in flight. Raises OpenChatError if another process has it.
    """

    def __init__(self, path: Path, key: str = "key") -> None:
        self.path = path
        self._key = key
        make_folder(path.parent)
        self._stream: IO[bytes] = path.open("a+b")
        self._lock()
        self._cut_torn_tail()
        self.rows: dict[str, dict[str, Json]] = {row[key]: row for _, row in read_rows(path)}

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:
            return  # Windows: two writers at once are the user's own care
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            message = f"{self.path}: another openchat process is writing here"
            raise OpenChatError(message) from None

    def _cut_torn_tail(self) -> None:
        self._stream.seek(0)
        whole = 0
        for line in self._stream:
            if line.endswith(b"\n"):
                whole += len(line)
        self._stream.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def append(self, row: dict[str, Json]) -> None:
        """Record one finished row; on the disk when this returns."""
        self._stream.write(dumps(row).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows[row[self._key]] = row

    def close(self) -> None:
        """Give the file back."""
        self._stream.close()
