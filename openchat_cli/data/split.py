"""Which conversations are held out for evaluation.

The rank of a conversation is xxh3-64 of "SEED:ID" (ties by place); the lowest ranks are held out.
That depends on no random generator, so on no Python version, and a conversation's rank stays the
same when others come or go. Both parts keep the order of the input.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def held_out_count(total: int, ratio: float) -> int:
    """max(1, round(ratio · N))."""
    return max(1, round(ratio * total))


def rank(seed: int, name: str) -> int:
    """The place of a conversation in the permutation of that seed."""
    import xxhash

    return int(xxhash.xxh3_64_intdigest(f"{seed}:{name}".encode("utf-8", "surrogatepass")))


def held_out(ranks: Sequence[int], count: int) -> set[int]:
    """The indexes of the `count` lowest ranks."""
    return set(heapq.nsmallest(count, range(len(ranks)), key=lambda index: (ranks[index], index)))
