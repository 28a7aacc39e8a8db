"""The token dataset on disk: `T.train.json` and `T.eval.json` (`[[ids, mask], …]`), its manifest.

Records are read one at a time into flat arrays (5 bytes a token), so that the lists of Python
objects of a whole file never exist at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MADE_BY = "made by: openchat data convert INPUT OUT --model-path MODEL"


@dataclass(frozen=True, slots=True)
class Files:
    """Where a dataset's parts are; `eval` and `manifest` are None where there is none."""

    train: Path
    eval: Path | None
    manifest: dict[str, Any] | None
    manifest_file: Path


@dataclass(frozen=True, slots=True)
class TokenDataset:
    """Conversations as flat arrays: ids and mask by token, offsets by conversation (n + 1)."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each conversation."""
        import numpy as np

        return np.diff(self.offsets)

    @property
    def supervised(self) -> NDArray[np.int64]:
        """Tokens of each conversation that have a loss; nothing predicts the first one."""
        import numpy as np

        counted = self.mask.copy()
        counted[self.offsets[:-1]] = False
        return np.add.reduceat(counted, self.offsets[:-1], dtype=np.int64)

    def record(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(ids, mask) of one conversation."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.ids[span], self.mask[span]


def find(data_path: Path, name: str) -> Files:
    """The dataset of model type `name` in a folder, or the one whose files begin with a prefix.

    Where a folder holds only another type's, that one is given, for the caller to refuse it by its
    manifest. Raises InputError naming what is missing.
    """
    if data_path.is_dir():
        prefix = data_path / _type_in(data_path, name)
    elif data_path.name.endswith(".train.json"):
        prefix = data_path.with_name(data_path.name.removesuffix(".train.json"))
    elif data_path.is_file():
        raise InputError(f"{data_path}: not a dataset (T.train.json)", _MADE_BY)
    else:
        prefix = data_path
    train, evaluation, manifest_file = (
        prefix.with_name(f"{prefix.name}.{part}.json") for part in ("train", "eval", "dataset")
    )
    if not train.exists():
        where = f"{data_path}: no such folder, and " if prefix == data_path else ""
        raise InputError(f"{where}{train}: no such file", _others(train) or _MADE_BY)
    manifest = None
    if manifest_file.exists():
        manifest = jsonl.read_json(manifest_file)
        if not isinstance(manifest, dict):
            raise InputError(f"{manifest_file}: a JSON object was expected", _MADE_BY)
    return Files(train, evaluation if evaluation.exists() else None, manifest, manifest_file)


def _type_in(folder: Path, name: str) -> str:
    names = [path.name.removesuffix(".train.json") for path in folder.glob("*.train.json")]
    if not names:
        raise InputError(f"{folder}: no dataset (T.train.json) here", _MADE_BY)
    if name not in names and len(names) == 1 and (folder / f"{names[0]}.dataset.json").exists():
        return names[0]
    return name


def _others(train: Path) -> str | None:
    names = sorted(path.name for path in train.parent.glob("*.train.json"))
    return f"there is {', '.join(names)}" if names else None


def read(path: Path, vocab_size: int) -> TokenDataset:
    """The records of a `T.train.json` or `T.eval.json`, checked.

    Raises InputError naming the file and the record (from 1) that is not `[ids, mask]` of one
    length, holds an id outside the vocabulary, or is cut off.
    """
    import numpy as np

    ids: list[NDArray[np.int32]] = []
    masks: list[NDArray[np.bool_]] = []
    with jsonl.open_input(path) as stream:
        data = stream.read()
    for number, value in enumerate(_records(path, data), 1):
        tokens, mask = _checked(f"{path}: record {number}", value, vocab_size)
        ids.append(tokens)
        masks.append(mask)
    if not ids:
        raise InputError(f"{path}: holds no conversations", _MADE_BY)
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in ids], out=offsets[1:])
    return TokenDataset(np.concatenate(ids), np.concatenate(masks), offsets)


def _records(path: Path, data: bytes) -> Iterator[object]:
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})", _MADE_BY) from None
    if not text.startswith("["):
        raise InputError(f"{path}: a JSON list of [ids, mask] was expected", _MADE_BY)
    decoder = json.JSONDecoder()
    at, number = _skip(text, 1), 0
    while at < len(text) and text[at] != "]":
        try:
            value, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            raise _cut_off(path, number) from None
        number += 1
        yield value
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _cut_off(path, number)
    if at != len(text) - 1:
        raise _cut_off(path, number)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _cut_off(path: Path, number: int) -> InputError:
    return InputError(f"{path}: not JSON after record {number} (cut off?)", _MADE_BY)


def _checked(
    where: str, value: object, vocab_size: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    import numpy as np

    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where}: [ids, mask] was expected", _MADE_BY)
    try:
        ids, mask = np.array(value[0]), np.array(value[1])
    except (ValueError, OverflowError):
        raise InputError(f"{where}: ids and mask must be flat lists", _MADE_BY) from None
    if ids.ndim != 1 or ids.shape != mask.shape or not len(ids):
        raise InputError(f"{where}: ids and mask must be lists of one length", _MADE_BY)
    if ids.dtype.kind != "i":
        raise InputError(f"{where}: token ids must be integers", _MADE_BY)
    if not (
        mask.dtype.kind == "b" or (mask.dtype.kind == "i" and not len(np.setdiff1d(mask, (0, 1))))
    ):
        raise InputError(f"{where}: the mask must be true or false for each token", _MADE_BY)
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if len(outside):
        message = f"{where}: token id {outside[0]} is outside the model's {vocab_size} embeddings"
        raise InputError(message, "was the dataset made with this model's tokeniser?")
    return ids.astype(np.int32), mask.astype(np.bool_)


def digest(path: Path) -> str:
    """A short name for a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()[:16]
