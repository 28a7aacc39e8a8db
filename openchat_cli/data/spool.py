"""Tokenised rows on disk, until it is known which of them are held out.

A row is a header, its ids, its runs of weights and its text as JSON. In memory there is where each
begins no longer than a batch: two numbers a row and one a conversation are all that grows.
"""

from __future__ import annotations

import struct
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from openchat_cli.core import jsonl
from openchat_cli.core.errors import OpenChatError

_HEADER = struct.Struct("<III")  # bytes of ids, runs, bytes of text
_RUN = struct.Struct("<If")


class TokenRow(NamedTuple):
    """One record of the dataset: ids packed as in core/words.py, and what each weighs.

    `runs` are (tokens, weight) in their order, weight 0 where nothing is learned; `text` is JSON.
    """

    packed: bytes
    runs: list[tuple[int, float]]
    text: bytes


@dataclass
class Spool:
    """Rows in the order of their conversations, with the rank and the length of each."""

    file: IO[bytes]
    ranks: array[int] = field(default_factory=lambda: array("Q"))  # of conversations
    owners: array[int] = field(default_factory=lambda: array("L"))  # conversation of each row
    lengths: array[int] = field(default_factory=lambda: array("L"))  # tokens of each row

    def begin(self, rank: int) -> None:
        """The rows that follow are of a conversation of that rank."""
        self.ranks.append(rank)

    def add(self, row: TokenRow, length: int) -> None:
        """One row of the conversation begun last."""
        self.file.write(_HEADER.pack(len(row.packed), len(row.runs), len(row.text)))
        self.file.write(row.packed)
        self.file.write(b"".join([_RUN.pack(*run) for run in row.runs]))
        self.file.write(row.text)
        self.owners.append(len(self.ranks) - 1)
        self.lengths.append(length)

    def rows(self) -> Iterator[TokenRow]:
        """All rows again."""
        read = self.file.read
        self.file.seek(0)
        for _ in self.lengths:
            ids, runs, text = _HEADER.unpack(read(_HEADER.size))
            yield TokenRow(read(ids), list(_RUN.iter_unpack(read(runs * _RUN.size))), read(text))


def open_spool(folder: Path) -> IO[bytes]:
    """A file without a name where the system has such, so that no killed run leaves it behind."""
    try:
        return tempfile.TemporaryFile(dir=folder, prefix=".spool.")
    except OSError as error:
        raise OpenChatError(f"{folder}: can't be written ({error.strerror})") from None


def text_json(text: str) -> bytes:
    """A text as a JSON string."""
    return jsonl.dumps(text).encode()
