"""Every candidate in a folder, file or stream, one at a time and always in the same order.

A folder is walked in the order of its paths. Pages are left for the workers to read; dumps and
archives are read here, piece by piece, so that memory does not grow with them.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Set
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, MissingExtraError
from openchat_cli.data import archives, dumps, kinds, parquet
from openchat_cli.data.dumps import WrongFileError
from openchat_cli.data.streams import BROKEN, Careful, Joined, Readable, spooled, unpacked, why
from openchat_cli.data.walk import walk
from openchat_cli.data.worker import LARGEST_PAGE, Item

IGNORED = "ignored"  # the kind of an item for a file that can't hold conversations

_HEAD = 512


def items(path: Path, *, without: Set[Path] = frozenset()) -> Iterator[Item]:
    """The candidates of a folder, an archive, a dump, a page, a pipe, or stdin (`-`).

    `without` are files to pass by, such as outputs that lie in the input's own
    folder. Raises InputError where `path` itself can't be read or holds something else;
    anything wrong further in becomes an item with a problem.
    """
    if path == jsonl.STDIO:
        yield from _named(sys.stdin.buffer, "stdin", "stdin")
        return
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            yield from _folder(path, without)
        elif stat.S_ISREG(mode) and kinds.by_name(path.name) == "page":
            yield Item(path.name, "page", "page", path=str(path))
        else:
            with path.open("rb") as stream:
                yield from _named(stream, path.name, str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None


def pages_in(path: Path) -> int | None:
    """How many candidates a folder of pages alone holds; None where that takes reading."""
    if not path.is_dir():
        return None
    count = 0
    for found in walk(path):
        if found.kind not in ("page", "ignored"):
            return None
        count += found.kind == "page"
    return count


def _folder(root: Path, without: Set[Path]) -> Iterator[Item]:
    passed = {path.absolute() for path in without}
    names = tuple(path.name for path in without)
    for found in walk(root):
        if names and found.path.endswith(names) and Path(found.path).absolute() in passed:
            continue
        if found.problem:
            yield Item(found.source, "", "page", problem=("unreadable", found.problem))
        elif found.kind == "page":
            yield Item(found.source, "page", "page", path=found.path)
        elif found.kind == "ignored":
            yield Item(found.source, "", IGNORED)
        else:
            yield from _inner(found.path, found.source)


def _inner(path: str, source: str) -> Iterator[Item]:
    """A dump or archive in a folder."""
    try:
        with Path(path).open("rb") as stream:
            yield from _checked(_by_bytes(stream, source), source)
    except BROKEN as error:
        yield Item(source, "", "json", problem=("unreadable", why(error)))


def _checked(found: Iterator[Item], source: str) -> Iterator[Item]:
    """One file's items among others': one that is no dump is one drop, an empty one is ignored."""
    count = 0
    try:
        for item in found:
            count += 1
            yield item
    except WrongFileError as error:
        yield Item(source, "", "json", problem=("unknown_shape", f"holds {error}"))
    except MissingExtraError as error:
        reason = f"{error.message}: {error.hint}"
        yield Item(source, "", "json", problem=("unreadable", reason))
    else:
        if not count:
            yield Item(source, "", IGNORED)


def _named(stream: IO[bytes], source: str, path: str) -> Iterator[Item]:
    """What the user named: where nothing in it can be read, that is an error of the whole."""
    count = 0
    try:
        for item in _by_bytes(stream, source):
            count += 1
            yield item
    except WrongFileError as error:
        hint = "pages, dumps, exports and archives that hold chats can be read"
        raise InputError(f"{path}: holds {error}, chats were expected", hint) from None
    except BROKEN as error:
        if not count:
            raise InputError(f"{path}: can't be read ({why(error)})") from None
        yield Item(source, "", "json", problem=("unreadable", why(error)))


def _by_bytes(stream: IO[bytes], source: str, packed: bool = False) -> Iterator[Item]:
    """A file or stream by its first bytes; by its name only where those say nothing."""
    careful = Careful(stream)
    head = careful.read(_HEAD)
    kind = kinds.by_bytes(head)
    if kind == "dump" and kinds.by_name(source) in ("tar", "zip", "parquet") and head:
        kind = kinds.by_name(source)
    with ExitStack() as stack:
        if kind in ("gzip", "bzip2", "xz") and not packed:
            whole = _rewound(stream, head)
            inner = unpacked(whole, kind)
            # What is unpacked can go back only if what it is unpacked from can.
            ahead = inner if whole is stream else cast(IO[bytes], Joined(b"", inner))
            yield from _by_bytes(ahead, source, packed=True)
        elif kind == "page":
            data = head + stream.read(LARGEST_PAGE + 1)
            yield _page(source, data)
        elif kind in ("zip", "tar", "parquet"):
            file = _seekable(stream, head, stack)
            yield from _archive(file, source, kind, packed and file is stream)
        else:
            yield from dumps.items(Joined(head, careful), source)


def _archive(file: IO[bytes], source: str, kind: str, packed: bool) -> Iterator[Item]:
    if kind == "parquet":
        yield from parquet.items(file, source)
    elif kind == "zip":
        yield from archives.zip_items(file, source, _of_member)
    else:
        yield from archives.tar_items(file, source, _of_member, packed=packed)


def _of_member(stream: Readable, source: str, kind: str) -> Iterator[Item]:
    """A dump or Parquet file in an archive."""
    with ExitStack() as stack:
        if kind == "parquet":
            file = stack.enter_context(spooled(stream))
            yield from _checked(parquet.items(file, source), source)
        else:
            yield from _checked(dumps.items(stream, source), source)


def _page(source: str, data: bytes) -> Item:
    if len(data) > LARGEST_PAGE:
        problem = ("unreadable", f"larger than {LARGEST_PAGE >> 20} MiB")
        return Item(source, "", "page", problem=problem)
    return Item(source, "page", "page", data=data)


def _rewound(stream: IO[bytes], head: bytes) -> Readable:
    if stream.seekable():
        stream.seek(0)
        return stream
    return Joined(head, stream)


def _seekable(stream: IO[bytes], head: bytes, stack: ExitStack) -> IO[bytes]:
    """The stream from its beginning where it can go back, else a temporary file of its bytes."""
    if stream.seekable():
        stream.seek(0)
        return stream
    return stack.enter_context(spooled(cast(Readable, Joined(head, stream))))
