"""Every candidate in a folder, file or stream, one at a time and always in the same order.

A folder is walked in the order of its paths. Pages are left for the workers to read; dumps and
archives are read here, piece by piece, so that memory does not grow with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import BinaryIO

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError
from openchat_cli.data import archives, dumps
from openchat_cli.data.worker import Item

PAGES = (".html", ".htm", ".html.gz", ".htm.gz")
DUMPS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

IGNORED = "ignored"  # the kind of an item for a file that can't hold conversations

# Beside conversations.json in ChatGPT's export: the same again as a page, and other things.
_EXPORT = "conversations.json"
_BESIDE_EXPORT = {
    "chat.html",
    "user.json",
    "user_settings.json",
    "message_feedback.json",
    "model_comparisons.json",
    "shared_conversations.json",
}
# What an earlier `data` command left in a folder beside its rows.
_OURS = (
    "dropped.jsonl",
    ".report.json",
    ".dataset.json",
    ".train.json",
    ".eval.json",
    ".text.json",
)


def items(path: Path, *, without: Set[Path] = frozenset()) -> Iterator[Item]:
    """The candidates of a folder, an archive, a dump, a page, or stdin (`-`).

    `without` are files to pass by, such as outputs that lie in the input's own
    folder. Raises InputError where `path` itself can't be read; anything wrong further in becomes
    an item with a problem.
    """
    if path == jsonl.STDIO:
        yield from _stream(sys.stdin.buffer, "stdin")
    elif path.is_dir():
        yield from _folder(path, without)
    elif path.exists():
        yield from _file(path)
    else:
        raise InputError(f"{path}: no such file or folder")


def pages_in(path: Path) -> int | None:
    """How many candidates a folder of pages alone holds; None where that takes reading.

    A twentieth of a second for 100,000 files, as the names alone are looked at, in any order.
    """
    if not path.is_dir():
        return None
    count = 0
    waiting = [os.fspath(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except OSError:
            count += 1  # reported as one candidate
            continue
        for entry in entries:
            name = entry.name.lower()
            if entry.is_dir():
                if entry.is_symlink():
                    return None
                waiting.append(entry.path)
            elif name.endswith(PAGES):
                count += 1
            elif name.endswith(DUMPS + ARCHIVES):
                return None
    return count


def _folder(root: Path, without: Set[Path]) -> Iterator[Item]:
    for path, relative, problem in _walk(root):
        if problem:
            yield Item(relative, "", "page", problem=("unreadable", problem))
        elif path not in without:
            yield from _of_file(path, relative)


def _walk(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(path, path relative to `root`, problem) of every file, in the order of their paths.

    Hidden files are passed by. Links to folders are followed, except back to a folder around them.
    """
    waiting = [(root, True)]
    while waiting:
        here, is_folder = waiting.pop()
        relative = here.relative_to(root).as_posix()
        if not is_folder:
            yield here, relative, ""
            continue
        try:
            with os.scandir(here) as scan:
                entries = sorted((entry.name, _is_folder(entry)) for entry in scan)
        except OSError as error:
            if here == root:
                raise InputError(f"{here}: can't be read ({error.strerror})") from None
            yield here, relative, error.strerror or "can't be read"
            continue
        beside = _BESIDE_EXPORT if (_EXPORT, False) in entries else set()
        waiting += (
            (here / name, folder)
            for name, folder in reversed(entries)
            if not name.startswith(".") and name not in beside
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir():
        return False
    return not (
        entry.is_symlink()
        and Path(entry.path).parent.resolve().is_relative_to(Path(entry.path).resolve())
    )


def _of_file(path: Path, source: str) -> Iterator[Item]:
    """A file of a folder, by its name."""
    name = path.name.lower()
    if name.endswith(PAGES):
        yield Item(source, "page", "page", path=str(path))
    elif name.endswith(_OURS) or not name.endswith(DUMPS + ARCHIVES):
        yield Item(source, "", IGNORED)
    else:
        try:
            yield from _dump_or_archive(path, source)
        except (OSError, InputError) as error:
            reason = error.message if isinstance(error, InputError) else str(error.strerror)
            yield Item(source, "", "json", problem=("unreadable", reason))


def _file(path: Path) -> Iterator[Item]:
    """A file named by the user: by its name, else by its first bytes."""
    name = path.name.lower()
    if name.endswith(PAGES):
        yield Item(path.name, "page", "page", path=str(path))
        return
    try:
        if name.endswith(DUMPS + ARCHIVES):
            yield from _dump_or_archive(path, path.name)
        else:
            with path.open("rb") as stream:
                yield from _stream(stream, path.name)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None


def _dump_or_archive(path: Path, source: str) -> Iterator[Item]:
    name = path.name.lower()
    if name.endswith(".zip"):
        yield from archives.zip_items(path, source, _member)
    elif name.endswith(ARCHIVES):
        yield from archives.tar_items(path, source, _member)
    else:
        with jsonl.open_input(path) as stream:
            yield from dumps.items(stream, source)


def _member(name: str, siblings: set[str]) -> str:
    """What a member of an archive is: page, dump, or ignored; `siblings`: all names, if known."""
    folder, _, base = name.rpartition("/")
    lower = base.lower()
    export = f"{folder}/{_EXPORT}" if folder else _EXPORT
    if lower in _BESIDE_EXPORT and export in siblings:
        return IGNORED
    if lower.startswith(".") or lower.endswith(_OURS):
        return IGNORED
    if lower.endswith(PAGES):
        return "page"
    return "dump" if lower.endswith(DUMPS) else IGNORED


def _stream(stream: BinaryIO, source: str) -> Iterator[Item]:
    """Bytes without a name: a page begins with a tag, anything else is taken for JSON."""
    head = stream.read(1 << 16)
    if head.lstrip().removeprefix(b"\xef\xbb\xbf").startswith(b"<"):
        yield Item(source, "page", "page", data=head + stream.read())
        return
    yield from dumps.items(_Joined(head, stream), source)


class _Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int) -> bytes:
        """At most that many bytes, b"" at the end."""
        if not self._head:
            return self._rest.read(size)
        found, self._head = self._head[:size], self._head[size:]
        return found
