"""The token dataset: `T.train.json`, `T.eval.json` (`[[ids, mask], …]`), their twins, a manifest.

The JSON is the truth. Its memory-mapped twin (core/dataset.py) is what is read where it belongs to
the JSON; where it does not, the JSON is parsed, a record at a time into flat arrays, and the twin
made anew. Weights are in the twin alone, so a dataset that has them needs it.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from openchat_cli.core import jsonl
from openchat_cli.core.dataset import Cache, CacheWriter, Key, UnfitError, cache_of, open_cache
from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.core.together import written_together

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
    """Conversations as flat arrays: ids and mask by token, offsets by conversation (n + 1).

    `weights` by token are None where every token that is learned weighs 1. The arrays may lie in a
    mapped file.
    """

    ids: NDArray[np.int32] | NDArray[np.uint16]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

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

        return _sums(self.mask, self.offsets, np.dtype(np.int64))

    @property
    def shares(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """What each conversation's losses weigh in all: its supervised tokens, if not weighted."""
        import numpy as np

        if self.weights is None:
            return self.supervised
        return _sums(self.weights, self.offsets, np.dtype(np.float64))

    def record(
        self, index: int
    ) -> tuple[
        NDArray[np.int32] | NDArray[np.uint16], NDArray[np.bool_], NDArray[np.float32] | None
    ]:
        """(ids, mask, weights) of one conversation."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.ids[span], self.mask[span], None if self.weights is None else self.weights[span]


def _sums(values: NDArray[Any], offsets: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Sum of each conversation's values but the first, some conversations at a time.

    (numpy would make a copy of all values in the wider type.)
    """
    import numpy as np

    found = np.empty(len(offsets) - 1, dtype=dtype)
    for first in range(0, len(found), _AT_A_TIME):
        ends = offsets[first : first + _AT_A_TIME + 1]
        starts = ends[:-1] - ends[0]
        part = values[ends[0] : ends[-1]]
        sums = np.add.reduceat(part, starts, dtype=dtype) - part[starts].astype(dtype)
        found[first : first + len(starts)] = sums
    return found


_AT_A_TIME = 1000  # conversations


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


# --- the twin ---


@dataclass(frozen=True, slots=True)
class Loaded:
    """A dataset, and what the user should know of how it was read."""

    data: TokenDataset
    note: str | None = None


def load(path: Path, vocab_size: int, *, build: bool = False) -> Loaded:
    """A `T.train.json` or `T.eval.json` through its twin, checked.

    A twin that is missing, belongs to another JSON or is damaged is not used; `build` makes it
    anew, once however many processes ask for it. Raises InputError as `read`, and where the dataset
    has weights but no twin that fits.
    """
    weighted = _weighted_twin(path)
    try:
        return Loaded(_mapped(path, vocab_size, weighted))
    except UnfitError as error:
        if weighted is not None:
            message = f"{cache_of(path)}: {error}, and the weights of the dataset are there alone"
            raise InputError(message, _MADE_BY) from None
        reason = str(error)
    if not build:
        return Loaded(read(path, vocab_size))
    with _one_at_a_time(path):
        with contextlib.suppress(UnfitError):  # another process has made it meanwhile
            return Loaded(_mapped(path, vocab_size, None))
        data = read(path, vocab_size)
        try:
            _write(path, data, vocab_size)
            data = _mapped(path, vocab_size, None)
        except (UnfitError, OpenChatError):
            note = f"{cache_of(path)}: {reason}, can't be written: each rank parses {path.name}"
            return Loaded(data, note)
    return Loaded(data, f"{cache_of(path)}: {reason}, made anew from {path.name}")


def _mapped(path: Path, vocab_size: int, sha256: str | None) -> TokenDataset:
    """The dataset in the twin; `sha256` is what the manifest says of the twin's own bytes."""
    if not cache_of(path).is_file():
        raise UnfitError("missing")
    try:
        cache = open_cache(cache_of(path), Key.of(path))
    except OSError:
        raise UnfitError("not readable") from None
    if sha256 is not None and _sha256(cache_of(path)) != sha256:
        raise UnfitError("not the one that the manifest names")
    if cache.highest >= vocab_size:
        raise _outside(path, cache, vocab_size)
    return TokenDataset(cache.tokens, cache.mask, cache.offsets, cache.weights)


def _weighted_twin(path: Path) -> str | None:
    """The SHA-256 of the twin where the manifest says that the dataset has weights."""
    stem = re.sub(r"\.(train|eval)\.json$", "", path.name)
    manifest_file = path.with_name(f"{stem}.dataset.json")
    manifest = jsonl.read_json(manifest_file) if manifest_file.is_file() else {}
    if not isinstance(manifest, dict) or manifest.get("weighted", False) is False:
        return None
    try:
        return str(manifest["files"][cache_of(path).name]["sha256"])
    except (KeyError, TypeError):
        raise InputError(f"{manifest_file}: damaged manifest (no files)", _MADE_BY) from None


def _outside(path: Path, cache: Cache, vocab_size: int) -> InputError:
    at = int((cache.tokens >= vocab_size).argmax())
    number = int((cache.offsets <= at).sum())
    return _outside_vocabulary(f"{path}: record {number}", int(cache.tokens[at]), vocab_size)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process in; where files can't be locked, several do the same work to the same end."""
    with path.open("rb") as stream:
        _wait_for(stream)
        yield


def _wait_for(stream: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:
        return
    with contextlib.suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_EX)


def _write(path: Path, data: TokenDataset, vocab_size: int) -> None:
    with written_together([cache_of(path)]) as (stream,):
        writer = CacheWriter(
            stream, conversations=len(data), tokens=len(data.ids), vocab_size=vocab_size
        )
        for index in range(len(data)):
            ids, mask, _ = data.record(index)
            writer.add(ids.tobytes(), _runs(mask))
        writer.finish(Key.of(path))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, float]]:
    """(tokens, weight) for each run of equal values."""
    import numpy as np

    starts = np.flatnonzero(np.diff(mask, prepend=~mask[:1]))
    lengths = np.diff(starts, append=len(mask))
    return list(zip(lengths.tolist(), mask[starts].astype(float).tolist(), strict=True))


# --- the JSON ---


def is_empty(path: Path) -> bool:
    """Whether a file is a JSON list without records."""
    return path.stat().st_size < 64 and jsonl.read_json(path) == []


def read(path: Path, vocab_size: int) -> TokenDataset:
    """The records of a `T.train.json` or `T.eval.json`, checked; the file is never in memory whole.

    Raises InputError naming the file and the record (from 1) that is not `[ids, mask]` of one
    length, holds an id outside the vocabulary, or is cut off.
    """
    import numpy as np

    ids, masks, offsets = bytearray(), bytearray(), [0]
    with jsonl.open_input(path) as stream:
        for number, record in enumerate(_records(path, stream), 1):
            tokens, mask = _checked(f"{path}: record {number}", record, vocab_size)
            ids += tokens.tobytes()
            masks += mask.tobytes()
            offsets.append(offsets[-1] + len(tokens))
    if len(offsets) == 1:
        raise InputError(f"{path}: holds no conversations", _MADE_BY)
    return TokenDataset(
        np.frombuffer(ids, dtype=np.int32),
        np.frombuffer(masks, dtype=np.bool_),
        np.array(offsets, dtype=np.int64),
    )


_BLOCK = 1 << 20


class _Text:
    """The text of a JSON file from where reading is, a block at a time."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream = path, stream
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = json.JSONDecoder().raw_decode
        self.text, self.at, self.ended = "", 0, False

    def next(self) -> str:
        """The next character that is no space, "" at the end; it is not taken."""
        while True:
            found = _SPACES.match(self.text, self.at)
            self.at = self.at if found is None else found.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more(_BLOCK)

    def value(self) -> object:
        """The next JSON value, taken; ValueError or RecursionError where there is none."""
        size = _BLOCK
        while True:
            try:
                value, self.at = self._decode(self.text, self.at)
                return value
            except ValueError:
                if self.ended:
                    raise
            # It may only be that its end is not read yet; twice as much each time, so that a
            # record of any length costs no more than a few readings of it.
            self._more(size)
            size *= 2

    def _more(self, size: int) -> None:
        block = self._stream.read(size)
        self.ended = len(block) < size
        try:
            self.text = self.text[self.at :] + self._utf8.decode(block, self.ended)
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: not UTF-8 ({error.reason})", _MADE_BY) from None
        self.at = 0


_SPACES = re.compile(r"[ \t\r\n]*")


def _records(path: Path, stream: BinaryIO) -> Iterator[object]:
    """The values of the file's list."""
    text, number = _Text(path, stream), 0
    if text.next() != "[":
        raise InputError(f"{path}: a JSON list of [ids, mask] was expected", _MADE_BY)
    text.at += 1
    while text.next() != "]":
        try:
            value = text.value()
        except (ValueError, RecursionError):
            raise _cut_off(path, number) from None
        number += 1
        yield value
        if text.next() == ",":
            text.at += 1
        elif text.next() != "]":
            raise _cut_off(path, number)
    text.at += 1
    if text.next():
        raise _cut_off(path, number)


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
        raise _outside_vocabulary(where, int(outside[0]), vocab_size)
    return ids.astype(np.int32), mask.astype(np.bool_)


def _outside_vocabulary(where: str, token: int, vocab_size: int) -> InputError:
    message = f"{where}: token id {token} is outside the model's {vocab_size} embeddings"
    return InputError(message, "was the dataset made with this model's tokeniser?")


def digest(path: Path, data: TokenDataset) -> str:
    """A short name for what is trained on; of a weighted dataset its twin's, which has all."""
    return _sha256(path if data.weights is None else cache_of(path))[:16]


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
