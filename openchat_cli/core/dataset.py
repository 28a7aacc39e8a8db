"""The memory-mapped twin of a token dataset: `T.train.safetensors` beside `T.train.json`.

The JSON is the truth; this file is a cache of it that names its JSON by size and hash, and a file
that names another is not used. What JSON has no place for, the weights, lives here alone.

A safetensors file: eight bytes of length, a JSON header, then the tensors, in this order:

    offsets  I64   [conversations + 1]  where each conversation begins
    weights  F32   [tokens]             share in the loss; 0 where nothing is learned
    tokens   U16 or I32  [tokens]       U16 where the vocabulary fits
    mask     BOOL  [tokens]             whether training learns the token
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "openchat tokens"
VERSION = "1"

_HEAD = 2048  # bytes before the first tensor: known only at the end, so they are reserved
_LENGTH = struct.Struct("<Q")
_BLOCK = 1 << 20
_TYPES = {"U16": "<u2", "I32": "<i4", "I64": "<i8", "F32": "<f4", "BOOL": "|b1"}


class UnfitError(Exception):
    """The cache can't be used; the message says why in a few words."""


@dataclass(frozen=True, slots=True)
class Key:
    """Which JSON a cache belongs to."""

    size: int  # bytes
    hash: str  # xxh3-128 of the bytes, in hexadecimal

    @classmethod
    def of(cls, path: Path) -> Key:
        """The key of a file: some 0.1 s a GB once it is in memory."""
        import xxhash

        found, size = xxhash.xxh3_128(), 0
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
                size += len(block)
        return cls(size, found.hexdigest())


def cache_of(json_file: Path) -> Path:
    """Where the cache of a `T.train.json` is."""
    return json_file.with_suffix(".safetensors")


# --- writing ---


@dataclass
class _Region:
    """One tensor's part of the file, filled from its beginning."""

    name: str
    type: str
    shape: int
    start: int  # from the first tensor on
    written: int = 0
    waiting: bytearray = field(default_factory=bytearray)
    hash: Any = None

    @property
    def size(self) -> int:
        return self.shape * int(_TYPES[self.type][2])


class CacheWriter:
    """Writes a cache conversation by conversation into a seekable stream; memory stays flat.

    The totals are told beforehand: they decide where each tensor begins.
    """

    def __init__(
        self, stream: BinaryIO, *, conversations: int, tokens: int, vocab_size: int
    ) -> None:
        import xxhash

        small = vocab_size <= 1 << 16
        types = {
            "offsets": ("I64", conversations + 1),
            "weights": ("F32", tokens),
            "tokens": ("U16" if small else "I32", tokens),
            "mask": ("BOOL", tokens),
        }
        self._stream, self._small = stream, small
        self._regions: dict[str, _Region] = {}
        start = 0
        for name, (type_, shape) in types.items():
            region = _Region(name, type_, shape, start, hash=xxhash.xxh3_128())
            self._regions[name] = region
            start += region.size
        self._end = self._supervised = self._highest = 0
        self._weighted = False
        self._put("offsets", struct.pack("<q", 0))

    def add(self, packed: bytes, runs: Sequence[tuple[int, float]]) -> None:
        """One conversation: ids packed as in words.py, and the runs of weights over them."""
        import numpy as np

        ids = np.frombuffer(packed, dtype=np.int32)
        self._end += len(ids)
        self._highest = max(self._highest, int(ids.max(initial=0)))
        self._put("offsets", struct.pack("<q", self._end))
        self._put("tokens", ids.astype("<u2" if self._small else "<i4").tobytes())
        for length, weight in runs:
            self._put("weights", struct.pack("<f", weight) * length)
            self._put("mask", (b"\1" if weight else b"\0") * length)
            if weight:
                self._supervised += length
                self._weighted |= weight != 1

    def finish(self, key: Key) -> None:
        """The rest of the tensors, then the header that names the JSON."""
        for region in self._regions.values():
            self._flush(region)
            if region.written != region.size:
                raise RuntimeError(f"{region.name}: {region.written} of {region.size} bytes")
        regions = list(self._regions.values())
        about = {
            "kind": KIND,
            "version": VERSION,
            "json_bytes": str(key.size),
            "json_xxh3_128": key.hash,
            "highest_token": str(self._highest),
            "supervised": str(self._supervised),
            "weighted": str(self._weighted).lower(),
            **{f"{region.name}_xxh3_128": region.hash.hexdigest() for region in regions},
        }
        header: dict[str, Any] = {"__metadata__": about}
        for region in regions:
            span = [region.start, region.start + region.size]
            header[region.name] = {
                "dtype": region.type,
                "shape": [region.shape],
                "data_offsets": span,
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        size = _HEAD - _LENGTH.size
        self._stream.seek(0)
        if len(text) > size:
            raise RuntimeError(f"a header of {len(text)} bytes")
        self._stream.write(_LENGTH.pack(size) + text.ljust(size))

    def _put(self, name: str, data: bytes) -> None:
        region = self._regions[name]
        region.waiting += data
        if len(region.waiting) >= _BLOCK:
            self._flush(region)

    def _flush(self, region: _Region) -> None:
        self._stream.seek(_HEAD + region.start + region.written)
        self._stream.write(region.waiting)
        region.hash.update(region.waiting)
        region.written += len(region.waiting)
        region.waiting.clear()


# --- reading ---


@dataclass(frozen=True, slots=True)
class Cache:
    """A mapped cache: pages come into memory as they are read, and all ranks share them."""

    tokens: NDArray[np.uint16] | NDArray[np.int32]
    mask: NDArray[np.bool_]
    weights: NDArray[np.float32] | None  # None where all that is learned weighs 1
    offsets: NDArray[np.int64]
    highest: int  # the highest token id


def open_cache(path: Path, key: Key) -> Cache:
    """Map a cache, checked from end to end.

    Raises UnfitError where it is missing, belongs to another JSON, is of another version or
    damaged: every byte is under a hash, and the file is read once for that.
    """
    try:
        with path.open("rb") as stream:
            header, start = _header(stream)
            about = header.pop("__metadata__")
            _check_belongs(about, key)
            end = path.stat().st_size - start
            for name in _check_layout(header, end):
                _check_bytes(stream, name, header[name], about)
    except FileNotFoundError:
        raise UnfitError("missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UnfitError("damaged") from None
    arrays = {name: _mapped(path, start, entry) for name, entry in header.items()}
    offsets = arrays["offsets"]
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(arrays["tokens"]):
        raise UnfitError("damaged")
    return Cache(
        tokens=arrays["tokens"],
        mask=arrays["mask"],
        weights=arrays["weights"] if about["weighted"] == "true" else None,
        offsets=offsets,
        highest=int(about["highest_token"]),
    )


def _header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header, and where the first tensor begins."""
    (size,) = _LENGTH.unpack(stream.read(_LENGTH.size).ljust(_LENGTH.size, b"\xff"))
    if size > _HEAD:
        raise ValueError
    header = json.loads(stream.read(size))
    return header, _LENGTH.size + size


def _check_belongs(about: Mapping[str, str], key: Key) -> None:
    if about["kind"] != KIND or about["version"] != VERSION:
        raise UnfitError("of another version")
    if (about["json_bytes"], about["json_xxh3_128"]) != (str(key.size), key.hash):
        raise UnfitError("made from another JSON")


def _check_layout(header: Mapping[str, Any], end: int) -> list[str]:
    """The tensors in their order; each must have its type and follow the one before."""
    names = ["offsets", "weights", "tokens", "mask"]
    at = 0
    for name in names:
        entry = header[name]
        begin, stop = entry["data_offsets"]
        if begin != at or stop - begin != entry["shape"][0] * int(_TYPES[entry["dtype"]][2]):
            raise ValueError
        at = stop
    lengths = {header[name]["shape"][0] for name in names[1:]}
    if at != end or len(lengths) != 1 or len(header) != len(names):
        raise ValueError
    return names


def _check_bytes(
    stream: BinaryIO, name: str, entry: Mapping[str, Any], about: Mapping[str, str]
) -> None:
    import xxhash

    begin, stop = entry["data_offsets"]
    found, left = xxhash.xxh3_128(), stop - begin
    while left and (block := stream.read(min(left, _BLOCK))):
        found.update(block)
        left -= len(block)
    if found.hexdigest() != about[f"{name}_xxh3_128"]:
        raise ValueError


def _mapped(path: Path, start: int, entry: Mapping[str, Any]) -> Any:
    import numpy as np

    return np.memmap(
        path,
        dtype=_TYPES[entry["dtype"]],
        mode="r",
        offset=start + entry["data_offsets"][0],
        shape=(entry["shape"][0],),
    )
