"""Which request is in which slot, and what the next step reads.

`rows[i]` has slot i. The first `decoding` rows have their whole prompt in their slot and gain one
token a step; the rows after them are still being read, at most `prefill_tokens` a step over all.

Long requests and short ones share, so that neither waits for all of the others. Of what a step
reads, half goes to the shortest prompts and the rest to the oldest. Free slots are given by turns
to who waits longest and to who needs least. And where no slot is free, an answer that has much left
gives way to a request that needs a quarter of that at most: it goes back to the head of the line,
and what it has said is read again later, like a prompt. It must have said half as much as it would
read again, so giving way costs an answer a share of its time and never all of it.

The slots after the rows keep what their last request left, and a new prompt that begins like
something in any slot starts from a copy of that. So the next turn of a conversation reads only what
is new, and a system prompt or the several answers to one prompt are read once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from openchat_cli.engine.row import Row

# A shorter beginning than this, such as BOS alone, is read again.
_WORTH_COPYING = 8
# A prompt that would share this many more tokens with one being read waits a step to copy them.
_WORTH_WAITING = 16
# Tokens that an answer may add before it gives way to a shorter one.
_TURN = 64
# A request that has to wait for a copy lets so many behind it pass.
_PASS = 8


class Slots(Protocol):
    """What can be done with slot contents (see runner.py)."""

    def copy(self, source: int, target: int, length: int) -> None: ...

    def swap(self, one: tuple[int, int], other: tuple[int, int]) -> None: ...

    def clear(self, slot: int) -> None: ...


class Scheduler:
    """The waiting line and the slots."""

    def __init__(
        self, slots: int, prefill_tokens: int, contents: Slots, *, limit: int | None = None
    ) -> None:
        self.slots = slots
        self.limit = min(slots, limit or slots)  # rows at once
        self.preempted = 0  # times an answer gave way
        self.waiting: deque[Row] = deque()
        self.rows: list[Row] = []
        self.decoding = 0
        self._prefill_tokens = prefill_tokens
        self._contents = contents
        # What free slots still hold, and when that was left there.
        self._kept: list[list[int]] = [[] for _ in range(slots)]
        self._left = [0] * slots
        self._clock = 0
        self._arrivals = 0
        self._smallest_next = False  # whose turn it is: by need, or by age

    def add(self, row: Row) -> None:
        """Put a new request at the end of the line."""
        self._arrivals += 1
        row.arrival = self._arrivals
        self.waiting.append(row)

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self.rows or self.waiting)

    def to_read(self) -> list[tuple[Row, int, int]]:
        """What the next prefill reads: (row, first position of its source, one past the last).

        Admits waiting requests while there are slots.
        """
        self._give_way()
        while self._admit():
            pass
        reading = sorted(self.rows[self.decoding :], key=lambda row: row.arrival)
        sizes = dict.fromkeys(reading, 0)
        left = self._prefill_tokens
        for order, until in (
            (sorted(reading, key=lambda row: row.unread), left // 2),
            (reading, 0),
        ):
            for row in order:
                size = min(left - until, row.unread - sizes[row])
                sizes[row] += size
                left -= size
        return [(row, row.cached, row.cached + size) for row, size in sizes.items() if size]

    def _give_way(self) -> None:
        """Send a long answer back to the line where a much shorter request waits for its slot."""
        if not self.waiting or len(self.rows) < self.limit:
            return
        least = min(row.need for row in self.waiting)
        fit = [row for row in self.rows[: self.decoding] if self._may_go(row, least)]
        if not fit:
            return
        row = min(fit, key=lambda row: row.cached)
        self.drop(row)
        row.read_again()
        self.waiting.appendleft(row)
        self._smallest_next = True
        self.preempted += 1

    def _may_go(self, row: Row, least: int) -> bool:
        turn = max(_TURN, row.cached // 2)
        return row.reusing and row.turn >= turn and row.left >= 4 * least

    def _next(self) -> tuple[Row, int, int] | None:
        """Who gets a free slot, the slot whose content it starts from, and how much of that."""
        first = self.waiting[0]
        if self._smallest_next:
            first = min(self.waiting, key=lambda row: row.need)
        held = self._held()
        for row in [first, *itertools.islice(self.waiting, _PASS)]:
            source, length = _best_start(row, held)
            if not self._better_comes(row, length):
                return row, source, length
        return None

    def _better_comes(self, row: Row, length: int) -> bool:
        """Whether a prompt being read will soon have more to copy from than `length` tokens."""
        if not row.reusing:
            return False
        coming = [shared(row.wanted, other.source) for other in self.rows[self.decoding :]]
        return max(coming, default=0) >= length + _WORTH_WAITING

    def _admit(self) -> bool:
        """Give a free slot to a request that waits; False where there is none, or none may go."""
        if not self.waiting or len(self.rows) == self.limit:
            return False
        found = self._next()
        if found is None:
            return False
        row, source, length = found
        self._smallest_next = not self._smallest_next
        self.waiting.remove(row)
        at = len(self.rows)
        self._make_room(at, source, length)
        if source != at and length and source < at:
            self._contents.copy(source, at, length)
        row.starts(length)
        self._kept[at] = []
        self.rows.append(row)
        return True

    def _held(self) -> list[list[int]]:
        """The tokens that each slot has the keys and values of."""
        return [*(row.held for row in self.rows), *self._kept[len(self.rows) :]]

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

    def have_read(self, parts: Sequence[tuple[Row, int, int]]) -> None:
        """Note what `to_read` gave as read; rows whose source is whole start to decode."""
        for row, _, end in parts:  # all of them first, since rows move whole
            row.cached = end
        for row, _, _ in parts:
            if not row.unread:
                self._exchange(self.rows.index(row), self.decoding)
                self.decoding += 1

    def drop(self, row: Row, *, keep: bool = True) -> None:
        """Take a row out, closing the gap: decoding rows stay first.

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
        self._exchange(len(self.rows) - 1, gap)
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


def _best_start(row: Row, held: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The slot that begins most like a prompt, and for how many tokens."""
    if not row.reusing:
        return 0, 0
    lengths = [shared(row.wanted, tokens) for tokens in held]
    longest = max(lengths)
    if longest < _WORTH_COPYING:
        return 0, 0
    # Of equals the last: a free slot needs no copy.
    return len(lengths) - 1 - lengths[::-1].index(longest), longest


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
