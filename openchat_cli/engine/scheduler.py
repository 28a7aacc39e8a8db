"""Which request is in which slot, and what the next step reads .

`rows[i]` has slot i. The first `decoding` rows have their whole prompt in their slot and gain one
token a step; the rows after them are still being read. Prompts are read first come, first served,
at most `prefill_tokens` a step over all of them, so between steps at most one row, the first after
the decoding ones, is partly read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from openchat_cli.engine.detokenise import TextStream
from openchat_cli.engine.generation import Deliver, Generation
from openchat_cli.engine.sampling import RowSampler
from openchat_cli.engine.settings import SamplingParams

Move = Callable[[int, int, int], None]  # source slot, target slot, positions


class Row:
    """One request inside the engine."""

    def __init__(
        self,
        generation: Generation,
        deliver: Deliver,
        prompt: list[int],
        params: SamplingParams,
        text: TextStream,
        max_tokens: int,
    ) -> None:
        self.generation = generation
        self.deliver = deliver
        self.prompt = prompt
        self.sampler = RowSampler(params)
        self.stop_token_ids = frozenset(params.stop_token_ids)
        self.text = text
        self.max_tokens = max_tokens
        self.cached = 0  # tokens whose keys and values are in the slot
        self.tokens: list[int] = []  # sampled

    @property
    def unread(self) -> int:
        """Prompt tokens not yet in the slot."""
        return max(0, len(self.prompt) - self.cached)


class Scheduler:
    """The waiting line and the slots. `move` copies slot contents when rows close up."""

    def __init__(self, slots: int, prefill_tokens: int, move: Move) -> None:
        self.slots = slots
        self.waiting: deque[Row] = deque()
        self.rows: list[Row] = []
        self.decoding = 0
        self._prefill_tokens = prefill_tokens
        self._move = move

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
            if at == len(self.rows):
                if not self.waiting or at == self.slots:
                    break
                self.rows.append(self.waiting.popleft())
            row = self.rows[at]
            size = min(budget, row.unread)
            parts.append((row, row.cached, row.cached + size))
            budget -= size
            at += 1
        return parts

    def slot(self, row: Row) -> int:
        """The slot that a row has now."""
        return self.rows.index(row)

    def has_read(self, row: Row, end: int) -> None:
        """Note that a row's prompt is in its slot up to `end`; a whole one starts to decode."""
        row.cached = end
        if not row.unread:
            assert self.rows[self.decoding] is row, "prompts are read in order"
            self.decoding += 1

    def drop(self, row: Row) -> None:
        """Take a row out, closing the gap: decoding rows stay first, the others in order."""
        if row in self.waiting:
            self.waiting.remove(row)
            return
        gap = self.rows.index(row)
        if gap < self.decoding:
            self.decoding -= 1
            self._shift(self.decoding, gap)
            gap = self.decoding
        for source in range(gap + 1, len(self.rows)):
            self._shift(source, source - 1)
        self.rows.pop()

    def _shift(self, source: int, target: int) -> None:
        if source != target:
            row = self.rows[source]
            self._move(source, target, row.cached)
            self.rows[target] = row
