"""Rows of a Parquet file, one batch at a time (the extra `data`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from openchat_cli.core.errors import need
from openchat_cli.data import shapes
from openchat_cli.data.dumps import WrongFileError
from openchat_cli.data.worker import Item

_BATCH = 64  # rows

# The columns that are read: conversations, and what is carried with them.
_COLUMNS = {
    *shapes.CHAT_KEYS,
    *shapes.PAIR_KEYS,
    "id",
    "conversation_id",
    "conversation_hash",
    "model",
    "language",
    "lang",
    "condition",
    "weight",
    "system",
    "history",
    "input",
    "text",
}


def items(file: IO[bytes], source: str) -> Iterator[Item]:
    """One item for each row of a file that can seek.

    Raises MissingExtraError without pyarrow, WrongFileError where no column can hold conversations,
    ValueError or OSError where the file is broken.
    """
    need("reading Parquet", "data", "pyarrow")
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file)
        columns = [name for name in table.schema_arrow.names if name in _COLUMNS]
        if not {*shapes.CHAT_KEYS, *shapes.PAIR_KEYS, "text"} & set(columns):
            found = ", ".join(table.schema_arrow.names[:8])
            raise WrongFileError(f"a table without conversations (columns: {found})")
        number = 0
        for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
            for row in batch.to_pylist():
                number += 1
                data = json.dumps(row, ensure_ascii=False, default=str).encode()
                yield Item(source, f"row {number}", "json", data=data)
    except ArrowException as error:
        raise ValueError(f"not a whole Parquet file ({error})") from None
