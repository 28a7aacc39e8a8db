"""The files of one split: its JSON, the texts beside it, the memory-mapped twin of the JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import xxhash

from openchat_cli.core.dataset import CacheWriter, Key
from openchat_cli.data.spool import TokenRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SplitWriter:
    """Writes the three files of a split row by row, `[[ids, mask], …]` as the original did."""

    def __init__(
        self,
        tokens: BinaryIO,
        texts: BinaryIO,
        cache: BinaryIO,
        *,
        rows: int,
        total: int,
        vocab_size: int,
    ) -> None:
        """`rows` and `total` (tokens) are what will come, `vocab_size` bounds the ids."""
        self._tokens, self._texts = tokens, texts
        self._cache = CacheWriter(cache, conversations=rows, tokens=total, vocab_size=vocab_size)
        self._numbers = numbers(vocab_size)
        self._hash, self._size = xxhash.xxh3_128(), 0
        self._between = b"[\n"

    def add(self, row: TokenRow) -> None:
        """One record."""
        self._json(self._between + record(row, self._numbers))
        self._texts.write(self._between + row.text)
        self._cache.add(row.packed, row.runs)
        self._between = b",\n"

    def finish(self) -> None:
        """The ends of the files."""
        self._json(b"\n]\n")
        self._texts.write(b"\n]\n")
        self._cache.finish(Key(self._size, self._hash.hexdigest()))

    def _json(self, data: bytes) -> None:
        self._tokens.write(data)
        self._hash.update(data)
        self._size += len(data)


def numbers(end: int) -> NDArray[np.bytes_]:
    """The numbers below `end` as JSON lists hold them, a comma after each."""
    import numpy as np

    return np.array([b"%d," % number for number in range(end)])


def record(row: TokenRow, numbers: NDArray[np.bytes_]) -> bytes:
    """`[ids, mask]` as JSON: ten times json.dumps' speed."""
    import numpy as np

    # The array pads shorter numbers with zero bytes.
    ids = numbers[np.frombuffer(row.packed, np.int32)].tobytes().translate(None, b"\0")
    mask = b"".join([(b"true," if weight else b"false,") * size for size, weight in row.runs])
    return b"[[%b],[%b]]" % (ids[:-1], mask[:-1])
