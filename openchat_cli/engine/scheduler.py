"""Which request is in which slot, and what the next step reads.

`rows[i]` has slot i. The first `decoding` rows have their whole prompt in their slot and gain one
token a step; the rows after them are still being read. Prompts are read first come, first served,
at most `prefill_tokens` a step over all of them, so between steps at most one row, the first after
the decoding ones, is partly read.

The slots after the rows keep what their last request left, and a new prompt that begins like
something in any slot starts from a copy of that. So the next turn of a conversation reads only what
is new, and a system prompt or the several answers to one prompt are read once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from openchat_cli.engine.row import Row

# A shorter beginning than this, such as BOS alone, is read again.
_WORTH_COPYING = 8
# A prompt that would share this many more tokens with one being read waits a step to copy them.
_WORTH_WAITING = 16


class Slots(Protocol):
    """What can be done with slot contents (see runner.py)."""

    def copy(self, source: int, target: int, length: int) -> None: ...

    def swap(self, one: tuple[int, int], other: tuple[int, int]) -> None: ...

    def clear(self, slot: int) -> None: ...


class Scheduler:
    """The waiting line and the slots."""

    def __init__(self, slots: int, prefill_tokens: int, contents: Slots) -> None:
        self.slots = slots
        self.waiting: deque[Row] = deque()
        self.rows: list[Row] = []
        self.decoding = 0
        self._prefill_tokens = prefill_tokens
        self._contents = contents
        # What free slots still hold, and when that was left there.
        self._kept: list[list[int]] = [[] for _ in range(slots)]
        self._left = [0] * slots
        self._clock = 0

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self.rows or self.waiting)

    def to_read(self) -> list[tuple[Row, int, int]]:
        """What the next prefill reads: (row, first prompt position, one past the last).

        Admits waiting requests while there are slots and tokens left in the step.
        """
        parts: list[tuple[Row, int, int]] = []
        budget = self._prefill_tokens
        at = self.decoding
        while budget:
            if at == len(self.rows) and not self._admit():
                break
            row = self.rows[at]
            size = min(budget, row.unread)
            parts.append((row, row.cached, row.cached + size))
            budget -= size
            at += 1
        return parts

    def _admit(self) -> bool:
        """Give the first free slot to the request that waits longest; False where it must wait."""
        if not self.waiting or len(self.rows) == self.slots:
            return False
        row = self.waiting[0]
        source, length = self._best_start(row)
        if row.reusing:
            coming = [shared(row.wanted, other.prompt) for other in self.rows[self.decoding :]]
            if max(coming, default=0) >= length + _WORTH_WAITING:
                return False
        self.waiting.popleft()
        at = len(self.rows)
        self._make_room(at, source, length)
        if source != at and length and source < at:
            self._contents.copy(source, at, length)
        row.cached = row.reused = length
        self._kept[at] = []
        self.rows.append(row)
        return True

    def _best_start(self, row: Row) -> tuple[int, int]:
        """The slot that begins most like a prompt, and for how many tokens."""
        if not row.reusing:
            return 0, 0
        held = [*(other.held for other in self.rows), *self._kept[len(self.rows) :]]
        lengths = [shared(row.wanted, tokens) for tokens in held]
        longest = max(lengths)
        if longest < _WORTH_COPYING:
            return 0, 0
        # Of equals the last: a free slot needs no copy.
        return len(lengths) - 1 - lengths[::-1].index(longest), longest

    def _make_room(self, at: int, source: int, length: int) -> None:
        """Bring the free slot that is given up to place `at`: the one to start from, where most of
        it is used, else the one left longest ago, with the start copied in.
        """
        free = range(at, self.slots)
        if source >= at and length and 2 * length >= len(self._kept[source]):
            victim = source
        else:
            victim = min(free, key=lambda slot: (bool(self._kept[slot]), self._left[slot]))
            if source >= at and length:
                self._contents.copy(source, victim, length)
        kept = len(self._kept[at])
        if victim != at and (kept or source >= at):
            taken = length if source >= at else 0
            self._contents.swap((at, kept), (victim, taken))
        self._kept[victim], self._left[victim] = self._kept[at], self._left[at]

    def slot(self, row: Row) -> int:
        """The slot that a row has now."""
        return self.rows.index(row)

    def has_read(self, row: Row, end: int) -> None:
        """Note that a row's prompt is in its slot up to `end`; a whole one starts to decode."""
        row.cached = end
        if not row.unread:
            assert self.rows[self.decoding] is row, "prompts are read in order"
            self.decoding += 1

    def drop(self, row: Row, *, keep: bool = True) -> None:
        """Take a row out, closing the gap: decoding rows stay first, the others in order.

        What the row leaves is kept in the first free slot, unless it is spoilt (`keep` false).
        """
        if row in self.waiting:
            self.waiting.remove(row)
            return
        gap = self.rows.index(row)
        if not keep:
            self._contents.clear(gap)
        if gap < self.decoding:
            self.decoding -= 1
            self._exchange(self.decoding, gap)
            gap = self.decoding
        for source in range(gap + 1, len(self.rows)):
            self._exchange(source, source - 1)
        last = self.rows.pop()
        assert last is row
        self._clock += 1
        self._kept[len(self.rows)] = row.held if keep else []
        self._left[len(self.rows)] = self._clock

    def _exchange(self, one: int, other: int) -> None:
        if one != other:
            rows = self.rows
            self._contents.swap((one, rows[one].cached), (other, rows[other].cached))
            rows[one], rows[other] = rows[other], rows[one]


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two lists have in common at the beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # whole slices compare faster than tokens one by one
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
