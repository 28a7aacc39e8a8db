"""Pages and dumps inside zip and tar archives, one member at a time, in the order of their names.

A zip has a list of its members, a tar's is made by going through it once. A packed tar whose
members are in another order is unpacked into a temporary file first, since one can't go back in it.
"""

from __future__ import annotations

import contextlib
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, cast

from openchat_cli.data import kinds
from openchat_cli.data.streams import BROKEN, Careful, Readable, spooled, unpacked, why
from openchat_cli.data.worker import LARGEST_PAGE, Item

# (bytes, source, kind) -> the items of a dump or Parquet file
Reader = Callable[[Readable, str, str], Iterator[Item]]

_NESTED = "an archive inside an archive is not opened: unpack it first"


def zip_items(file: IO[bytes], source: str, read: Reader) -> Iterator[Item]:
    """The members of a zip; raises zipfile.BadZipFile where it has no list of them."""
    with zipfile.ZipFile(file) as archive:
        members = [entry for entry in archive.infolist() if not entry.is_dir()]
        members.sort(key=lambda entry: kinds.order(_clean(entry.filename)))
        exports = kinds.export_folders(_clean(entry.filename) for entry in members)
        for entry in members:
            name = _clean(entry.filename)
            if kinds.is_hidden(name):
                continue
            kind = kinds.of_member(name, exports)
            if stat.S_ISLNK(entry.external_attr >> 16):
                kind = "ignored"
            where = f"{source}/{name}"
            try:
                if entry.flag_bits & 1 and kind != "ignored":
                    yield _unreadable(where, "encrypted: unpack it with its password first")
                elif kind in ("page", "dump", "parquet"):
                    with archive.open(entry) as stream:
                        yield from _member(stream, where, kind, read)
                else:
                    yield _other(where, kind)
            except BROKEN as error:
                yield _unreadable(where, why(error))


class _Member(NamedTuple):
    """A file in a tar: where its bytes begin and how many they are."""

    name: str
    start: int
    size: int


def tar_items(file: IO[bytes], source: str, read: Reader, *, packed: bool) -> Iterator[Item]:
    """The members of a tar in a file that can seek; `packed`: going back in it is slow.

    Raises tarfile.TarError where the file is no tar. What stands after a broken place can't be
    found: a last item says so.
    """
    members: list[_Member] = []
    broken = ""
    try:
        for member in _members(file):
            members.append(member)
    except BROKEN as error:
        broken = why(error)
        if not members:
            raise tarfile.ReadError(f"not a whole tar file ({broken})") from None
    exports = kinds.export_folders(member.name for member in members)
    ordered = sorted(members, key=lambda member: kinds.order(member.name))
    with contextlib.ExitStack() as stack:
        if packed and ordered != members and not broken:
            file.seek(0)
            file = stack.enter_context(spooled(file))
        for member in ordered:
            yield from _of_tar(file, member, source, exports, read)
    if broken:
        yield _unreadable(source, f"broken archive ({broken})")


def _members(file: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
            name = _clean(entry.name)
            if entry.isreg() and not entry.issparse() and not kinds.is_hidden(name):
                yield _Member(name, entry.offset_data, entry.size)
        # tarfile takes a broken header for the end.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("a broken header")


def _of_tar(
    file: IO[bytes], member: _Member, source: str, exports: set[str], read: Reader
) -> Iterator[Item]:
    kind, where = kinds.of_member(member.name, exports), f"{source}/{member.name}"
    if kind not in ("page", "dump", "parquet"):
        yield _other(where, kind)
        return
    try:
        file.seek(member.start)
        yield from _member(_Slice(file, member.start, member.size), where, kind, read)
    except BROKEN as error:
        yield _unreadable(where, why(error))


class _Slice:
    """A member's bytes; it goes on where it was, whoever moved the file meanwhile."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._at, self._end = file, start, start + size

    def read(self, size: int = -1, /) -> bytes:
        """At most that many bytes; EOFError where the archive ends before the member does."""
        left = self._end - self._at
        wanted = left if size < 0 else min(size, left)
        if not wanted:
            return b""
        if self._file.tell() != self._at:
            self._file.seek(self._at)
        found = self._file.read(wanted)
        if len(found) < wanted:
            raise EOFError("the archive is cut off")
        self._at += len(found)
        return found


def _member(stream: Readable, source: str, kind: str, read: Reader) -> Iterator[Item]:
    if source.lower().endswith(".gz"):
        stream = unpacked(stream, "gzip")
    if kind != "page":
        yield from read(Careful(cast(IO[bytes], stream)), source, kind)
        return
    data = stream.read(LARGEST_PAGE + 1)
    if len(data) > LARGEST_PAGE:
        yield _unreadable(source, f"larger than {LARGEST_PAGE >> 20} MiB")
    else:
        yield Item(source, "page", "page", data=data)


def _other(source: str, kind: str) -> Item:
    return Item(source, "", "ignored") if kind == "ignored" else _unreadable(source, _NESTED)


def _unreadable(source: str, reason: str) -> Item:
    return Item(source, "", "page", problem=("unreadable", reason))


def _clean(name: str) -> str:
    """A member's name without a leading `./` or `/`; bytes that are no UTF-8 as `\\xff`."""
    raw = name.replace("\\", "/").encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").removeprefix("./").lstrip("/")
