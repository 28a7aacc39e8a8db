"""Vectors that an endpoint has given: on the disk before anything else happens to them.

The numbers lie one after the other in a file of float32; a journal beside it tells which text has
which place. A row of the journal is written after its numbers, so a kill leaves at most numbers
that nobody points to, and these are written over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.jsonl import Journal

if TYPE_CHECKING:
    from openchat_cli.data.embedding.local import Vectors

_NUMBER = 4  # bytes


class VectorJournal:
    """The vectors of a folder's `.journal`, by the key of their text; for one writer at a time."""

    def __init__(self, folder: Path) -> None:
        self._rows = Journal(folder / ".journal" / "embeddings.jsonl")
        path = folder / ".journal" / "embeddings.f32"
        self._stream = path.open("r+b" if path.exists() else "w+b")
        self._guard = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}  # key -> (first byte, dimensions)
        self._end = 0
        size = path.stat().st_size
        for row in self._rows.rows.values():
            end = row["at"] + len(row["texts"]) * row["dims"] * _NUMBER
            if end > size:
                self.close()
                hint = f"delete {path.parent} and embed anew"
                raise OpenChatError(f"{path}: shorter than its journal says", hint)
            self._index(row["texts"], row["at"], row["dims"])
            self._end = max(self._end, end)

    def _index(self, keys: Sequence[str], at: int, dims: int) -> None:
        for place, key in enumerate(keys):
            self._places[key] = (at + place * dims * _NUMBER, dims)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def append(self, keys: Sequence[str], vectors: Vectors, tokens: int) -> None:
        """Record the vectors of some texts and the tokens they were billed for."""
        data = vectors.astype("<f4").tobytes()
        with self._guard:
            at = self._end
            self._stream.seek(at)
            self._stream.write(data)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            dims = int(vectors.shape[1])
            self._rows.append(
                {"key": keys[0], "texts": list(keys), "at": at, "dims": dims, "tokens": tokens}
            )
            self._end = at + len(data)
            self._index(keys, at, dims)

    def dims(self, keys: Sequence[str]) -> set[int]:
        """How many numbers the vectors of these texts have."""
        return {self._places[key][1] for key in keys if key in self._places}

    def tokens(self, keys: Sequence[str]) -> int:
        """The tokens that the calls behind these texts were billed for."""
        wanted = set(keys)
        rows = self._rows.rows.values()
        return sum(row["tokens"] for row in rows if not wanted.isdisjoint(row["texts"]))

    def read(self, keys: Sequence[str], dims: int) -> Vectors:
        """The vectors of these texts, [len(keys), dims]."""
        import numpy as np

        found = np.empty((len(keys), dims), np.float32)
        for index, key in enumerate(keys):
            self._stream.seek(self._places[key][0])
            found[index] = np.frombuffer(self._stream.read(dims * _NUMBER), "<f4")
        return found

    def close(self) -> None:
        """Give the files back."""
        self._stream.close()
        self._rows.close()
