"""Near duplicates: MinHash signatures made by the workers, looked up in the order of the input.

What is compared is the set of pairs of neighbouring words of each message, told apart by role; a
Chinese, Japanese, Thai, Lao or Khmer character is a word, case and punctuation don't count. The
similarity of two conversations is the Jaccard index of their sets, estimated from 128 permutations
(standard error at most 0.044; 0.035 at a similarity of 0.8).
Broder, "On the resemblance and containment of documents", 1997.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import UsageError, need
from openchat_cli.core.records import Message

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 128
# A pair at the threshold itself is looked at with at least this probability.
_RECALL = 0.98
_SEED = 1
_BLOCK = 8192  # pairs of words permuted at once: 4 MB
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]++")
# Any odd number with many ones: what comes first in a pair counts differently from what follows.
_FACTOR = 0x9E3779B97F4A7C15


def check(threshold: float | None) -> None:
    """Raise UsageError for a threshold that can't work, MissingExtraError without datasketch."""
    if threshold is None:
        return
    if not 0 < threshold <= 1:  # also NaN
        raise UsageError(
            f"--near-dup {threshold:g}: a similarity above 0 and up to 1 is needed",
            "0.8 finds conversations that differ in a few words",
        )
    need("--near-dup", "data", "datasketch")


def signature(messages: Iterable[Message]) -> bytes:
    """The MinHash of a conversation: 128 unsigned 32-bit numbers, the same on every machine."""
    import numpy as np
    from datasketch import MinHash

    sketch = MinHash(
        PERMUTATIONS, _SEED, hashfunc=int, permutations=_permutations(), scheme="affine32"
    )
    parts = [_pairs(message) for message in messages]
    found = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint32)
    for start in range(0, len(found), _BLOCK):
        sketch.update_batch(found[start : start + _BLOCK].tolist())
    values: bytes = sketch.hashvalues.astype("<u4").tobytes()
    return values


def _pairs(message: Message) -> np.ndarray[Any, Any]:
    """A 32-bit hash of each pair of neighbouring words; of the whole text where there is none."""
    import numpy as np
    import xxhash

    seed = xxhash.xxh3_64_intdigest(message.role.encode())
    words = _WORD.findall(message.content.casefold())
    if len(words) < 2:
        whole = words[0] if words else " ".join(message.content.split())
        return np.array([xxhash.xxh3_64_intdigest(whole.encode(), seed) >> 32], np.uint32)
    known = {word: xxhash.xxh3_64_intdigest(word.encode(), seed) for word in set(words)}
    hashes = np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
    # Unsigned arithmetic wraps round, which is the modulus that is wanted.
    mixed = hashes[:-1] * np.uint64(_FACTOR) + hashes[1:]
    return (mixed >> np.uint64(32)).astype(np.uint32)


@functools.cache
def _permutations() -> Any:
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, _SEED, scheme="affine32").permutations


def bands(threshold: float) -> tuple[int, int]:
    """(bands, rows in each): the fewest bands that find a pair at the threshold nearly always.

    A pair of similarity s has a band in common with probability 1 - (1 - s^rows)^bands.
    """
    for rows in range(PERMUTATIONS // 2, 1, -1):
        count = PERMUTATIONS // rows
        missed = (1 - threshold**rows) ** count
        if missed <= 1 - _RECALL:
            return count, rows
    return PERMUTATIONS, 1


class _Table:
    """A band's buckets, in the form that MinHashLSH works with.

    Its own tables hold a set for each bucket, three times the memory: nearly all buckets hold one
    number.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[int, ...]] = {}

    def get(self, bucket: int) -> tuple[int, ...]:
        return self._buckets.get(bucket, ())

    def insert(self, bucket: int, number: int, buffer: bool = False) -> None:
        self._buckets[bucket] = (*self.get(bucket), number)


class _NoKeys:
    """In place of the list by which MinHashLSH removes what was inserted: nothing is removed."""

    def insert(self, *_: object, buffer: bool = False) -> None:
        return None


class Index:
    """The conversations kept so far, by their signatures.

    At a threshold of 0.8 each takes 2 kB: half of one for the signature, the rest for its bands.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._tables = MinHashLSH(
            num_perm=PERMUTATIONS, params=bands(threshold), hashfunc=_short, prepickle=False
        )
        self._tables.hashtables = [_Table() for _ in self._tables.hashtables]
        self._tables.keys = _NoKeys()
        self._kept: list[tuple[str, bytes]] = []

    def find(self, signature: bytes) -> tuple[str, float] | None:
        """The most similar of the kept ones, the first of several, if it is similar enough."""
        import numpy as np

        nearest = sorted(self._tables.query(_sketch(signature)))
        if not nearest:
            return None
        own = np.frombuffer(signature, "<u4")
        others = np.frombuffer(b"".join(self._kept[one][1] for one in nearest), "<u4")
        equal = (others.reshape(-1, PERMUTATIONS) == own).sum(axis=1)
        best = int(equal.argmax())  # the first of the largest
        similarity = int(equal[best]) / PERMUTATIONS
        if similarity < self._threshold:
            return None
        return self._kept[nearest[best]][0], similarity

    def add(self, name: str, signature: bytes) -> None:
        """One more kept conversation."""
        key = len(self._kept)
        self._kept.append((name, signature))
        self._tables.insert(key, _sketch(signature), check_duplication=False)


def _sketch(signature: bytes) -> Any:
    import numpy as np
    from datasketch import LeanMinHash

    values = np.frombuffer(signature, "<u4").astype(np.uint32)
    return LeanMinHash(seed=_SEED, hashvalues=values, scheme="affine32")


def _short(band: bytes) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(band)
