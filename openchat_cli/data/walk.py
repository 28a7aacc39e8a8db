"""The files of a folder, in the order of their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from openchat_cli.core.errors import InputError
from openchat_cli.data import kinds
from openchat_cli.data.kinds import Kind


class Found(NamedTuple):
    """A file: its path, its path inside the folder as text, what it is, what is wrong with it."""

    path: str
    source: str
    kind: Kind
    problem: str = ""


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    is_special: bool


class _Folder(NamedTuple):
    path: str
    source: str
    entries: Iterator[_Entry]
    has_export: bool


def walk(root: Path) -> Iterator[Found]:
    """Every file below `root`, folders of any depth; hidden ones are passed by.

    Links to folders are followed, but no folder is walked twice. What is no file and no folder
    (pipes, devices, sockets) is ignored.
    Raises InputError where `root` itself can't be read.
    """
    seen: set[tuple[int, int]] = set()
    try:
        stack = [_opened(str(root), "", seen)]
    except OSError as error:
        raise InputError(f"{root}: can't be read ({error.strerror})") from None
    while stack:
        folder = stack[-1]
        entry = next(folder.entries, None)
        if entry is None:
            stack.pop()
            continue
        path, source = f"{folder.path}{os.sep}{entry.name}", folder.source + _shown(entry.name)
        if not entry.is_folder:
            kind = kinds.by_name(source, folder.has_export)
            yield Found(path, source, "ignored" if entry.is_special else kind)
            continue
        try:
            stack.append(_opened(path, f"{source}/", seen))
        except OSError as error:
            yield Found(path, source, "ignored", error.strerror or "can't be read")


def _opened(path: str, source: str, seen: set[tuple[int, int]]) -> _Folder:
    """A folder with its entries by name; none where it was seen before."""
    status = Path(path).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return _Folder(path, source, iter(()), False)
    seen.add(identity)
    with os.scandir(path) as scan:
        entries = sorted(_entry(entry) for entry in scan if not entry.name.startswith("."))
    has_export = any(kinds.is_export(entry.name) for entry in entries)
    return _Folder(path, source, iter(entries), has_export)


def _entry(entry: os.DirEntry[str]) -> _Entry:
    try:
        if entry.is_dir():
            return _Entry(entry.name, True, False)
        if entry.is_file():
            return _Entry(entry.name, False, False)
        special = not stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        special = False  # a link to nowhere: opening it will say so
    return _Entry(entry.name, False, special)


def _shown(name: str) -> str:
    """The name as text that any file can hold; bytes that are no UTF-8 as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
