"""Keys and values of all requests, one slot each, and the cache object the model writes through.

Per layer two tensors [slots, heads, capacity, head size]. The rows that decode are kept in the
first slots (see scheduler.py), so a decode step attends over a plain view, with no gathering.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from openchat_cli.engine.attention import Attends, attend_rows, attend_span

# Decode attends over a multiple of this many positions, so that shapes repeat.
_WIDTH_STEP = 16


@dataclass(frozen=True, slots=True)
class Span:
    """Prompt tokens to read in one step: they go to `slot`, from position `start` on."""

    slot: int
    start: int
    tokens: list[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


class Step(Attends, Protocol):
    """One forward pass: where new keys and values go, and what the queries then attend to."""

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> None: ...


class PrefillStep:
    """Several prompts, or parts of them, in one row, each attending to itself alone.

    `window`: how far back a token looks, itself included, if not to the beginning.
    """

    def __init__(
        self, spans: Sequence[Span], device: torch.device, window: int | None = None
    ) -> None:
        self._spans = spans
        self._window = window
        self.input_ids = torch.tensor([[t for span in spans for t in span.tokens]], device=device)
        positions = [at for span in spans for at in range(span.start, span.end)]
        self.position_ids = torch.tensor([positions], device=device)

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> None:
        """Put what the spans' tokens gave into their slots."""
        for span, part in self._parts():
            keys[span.slot, :, span.start : span.end] = new[0][0, :, part]
            values[span.slot, :, span.start : span.end] = new[1][0, :, part]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None) -> Tensor:
        """Every span over its own slot."""
        found = [
            attend_span(
                query[0, :, part],
                keys[span.slot, :, : span.end],
                values[span.slot, :, : span.end],
                self._window,
                scaling,
            )
            for span, part in self._parts()
        ]
        return torch.cat(found)[None]

    def _parts(self) -> Iterator[tuple[Span, slice]]:
        at = 0
        for span in self._spans:
            until = at + len(span.tokens)
            yield span, slice(at, until)
            at = until


class DecodeStep:
    """One new token for each of the first slots, which hold `lengths` tokens."""

    def __init__(
        self,
        tokens: Sequence[int],
        lengths: Sequence[int],
        capacity: int,
        device: torch.device,
        *,
        window: int | None = None,
        apart: int | None = None,
    ) -> None:
        count = len(tokens)
        self._ends = [length + 1 for length in lengths]
        self._first = [max(0, end - window) if window else 0 for end in self._ends]
        width = -(-max(self._ends) // _WIDTH_STEP) * _WIDTH_STEP
        self._width = min(capacity, width)
        needless = count * self._width - sum(self._ends) + sum(self._first)
        self._apart = apart is not None and (count == 1 or needless > count * apart)
        self._rows = None if count == 1 else torch.arange(count, device=device)
        self._at = torch.tensor(lengths, device=device)
        self.input_ids = torch.tensor(tokens, device=device)[:, None]
        self.position_ids = self._at[:, None]
        self._mask = None if self._apart else self._visible(window)

    def _visible(self, window: int | None) -> Tensor:
        columns = torch.arange(self._width, device=self._at.device)[None]
        seen = columns <= self._at[:, None]
        if window is not None:
            seen &= columns > self._at[:, None] - window
        return seen[:, None, None]

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> None:
        """Append each row's token to its slot."""
        if self._rows is None:  # indexing by numbers is the faster
            at = self._ends[0] - 1
            keys[0, :, at], values[0, :, at] = new[0][0, :, 0], new[1][0, :, 0]
            return
        keys[self._rows, :, self._at] = new[0][:, :, 0]
        values[self._rows, :, self._at] = new[1][:, :, 0]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None) -> Tensor:
        """All rows at once over the longest's width; or each alone, where that is less work."""
        count, width = len(self._ends), self._width
        if self._mask is not None:
            keys, values = keys[:count, :, :width], values[:count, :, :width]
            return attend_rows(query, keys, values, self._mask, scaling)
        found = [
            attend_rows(
                query[row : row + 1],
                keys[row : row + 1, :, first:end],
                values[row : row + 1, :, first:end],
                None,
                scaling,
            )
            for row, (first, end) in enumerate(zip(self._first, self._ends, strict=True))
        ]
        return found[0] if len(found) == 1 else torch.cat(found)


class SlotCache(Cache):
    """The slots of all layers, as the cache object that a transformers model takes.

    Set `step` before each forward pass. Masks and positions come with the step, so the length that
    transformers asks for is always 0.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int, int]], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.step: Step | None = None
        self.keys = [_zeros(shape, dtype, device) for shape in shapes]
        self.values = [_zeros(shape, dtype, device) for shape in shapes]
        super().__init__(layers=[_Layer(self, index) for index in range(len(shapes))])

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Let the step put what a layer gave into the slots; gives all that the layer has."""
        assert self.step is not None, "set the cache's step before a forward pass"
        stored = self.keys[layer], self.values[layer]
        self.step.store(*stored, (keys, values))
        return stored  # whole: the step's attention knows which part is whose

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another."""
        for stored in (*self.keys, *self.values):
            stored[target, :, :length] = stored[source, :, :length]

    def swap(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Exchange two slots, each given with the number of its positions that matter."""
        (first, ours), (second, theirs) = one, other
        for stored in (*self.keys, *self.values):
            saved = stored[first, :, :ours].clone() if theirs else stored[first, :, :ours]
            stored[first, :, :theirs] = stored[second, :, :theirs]
            stored[second, :, :ours] = saved

    def clear(self, slot: int) -> None:
        """Forget a slot whose numbers may be none (0 · NaN is NaN, also where masked away)."""
        for stored in (*self.keys, *self.values):
            stored[slot] = 0


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # theirs has no types
    is_sliding = False

    def __init__(self, cache: SlotCache, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs has no types
        self._cache, self._index = cache, index
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return self._cache.store(self._index, key_states, value_states)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        return None

    def get_seq_length(self, *args: Any) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, *args: Any) -> tuple[int, int]:
        return query_length, 0

    # transformers renamed this within 5.x; both names are asked for.
    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        return -1


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, since what is masked away must still be a number (0 · NaN is NaN).

    On the CPU the pages are mapped, not written: a slot takes memory only as it fills.
    """
    if device.type != "cpu":
        return torch.zeros(*shape, dtype=dtype, device=device)
    count = 1
    for size in shape:
        count *= size
    pages = mmap.mmap(-1, count * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(*shape)
