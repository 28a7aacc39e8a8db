"""Pages and dumps inside zip and tar archives, one member at a time."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from openchat_cli.core.errors import InputError
from openchat_cli.data import dumps
from openchat_cli.data.worker import LARGEST_PAGE, Item

Kind = Callable[[str, set[str]], str]
_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError)


def zip_items(path: Path, source: str, kind: Kind) -> Iterator[Item]:
    """The members of a zip in the order of their names."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a whole zip file ({error})") from None
    with archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        known = set(names)
        for name in names:
            where = f"{source}/{name}"
            try:
                with archive.open(name) as stream:
                    yield from _member(stream, where, kind(name, known))
            except (*_BROKEN, NotImplementedError) as error:
                yield Item(where, "", "page", problem=("unreadable", str(error)))


def tar_items(path: Path, source: str, kind: Kind) -> Iterator[Item]:
    """The members of a tar in the order in which it holds them: it can only be read through once.

    What stands after a broken place can't be found: one item says so.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    where = f"{source}/{member.name}"
                    yield from _member(stream, where, kind(member.name, set()))
    except _BROKEN as error:
        yield Item(source, "", "page", problem=("unreadable", f"broken archive ({error})"))


def _member(stream: IO[bytes], source: str, kind: str) -> Iterator[Item]:
    if kind not in ("page", "dump"):
        yield Item(source, "", kind)
        return
    if source.endswith(".gz"):
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if kind == "dump":
        yield from dumps.items(stream, source)
        return
    data = stream.read(LARGEST_PAGE + 1)
    if len(data) > LARGEST_PAGE:
        problem = ("unreadable", f"larger than {LARGEST_PAGE >> 20} MiB")
        yield Item(source, "", "page", problem=problem)
    else:
        yield Item(source, "page", "page", data=data)
