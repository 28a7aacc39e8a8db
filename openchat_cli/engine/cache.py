"""Keys and values of all requests, one slot each, and the cache object the model writes through.

Per layer two tensors [slots, heads, capacity, head size]. The rows that decode are kept in the
first slots (see scheduler.py), so a decode step attends over a plain view, with no gathering.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

# Decode attends over a multiple of this many positions, so that shapes repeat.
_WIDTH_STEP = 64


@dataclass(frozen=True, slots=True)
class Span:
    """Prompt tokens to read in one step: they go to `slot`, from position `start` on."""

    slot: int
    start: int
    tokens: list[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


class Step(Protocol):
    """One forward pass: where new keys and values go and what the queries then attend to."""

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> _KeysValues: ...


_KeysValues = tuple[Tensor, Tensor]


class PrefillStep:
    """Several prompts, or parts of them, in one row, each attending to itself alone."""

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self._spans = spans
        self._fresh = all(span.start == 0 for span in spans)
        self.input_ids = torch.tensor([[t for span in spans for t in span.tokens]], device=device)
        lengths = [len(span.tokens) for span in spans]
        queries = _places([(span.start, span.end) for span in spans], device)
        keys = queries if self._fresh else _places([(0, span.end) for span in spans], device)
        self.position_ids = queries[1][None]
        same = queries[0][:, None] == keys[0][None]
        self.mask = (same & (queries[1][:, None] >= keys[1][None]))[None, None]
        self.last = torch.tensor(lengths, device=device).cumsum(0) - 1

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> _KeysValues:
        at = 0
        for span in self._spans:
            until = at + len(span.tokens)
            keys[span.slot, :, span.start : span.end] = new[0][0, :, at:until]
            values[span.slot, :, span.start : span.end] = new[1][0, :, at:until]
            at = until
        if self._fresh:
            return new
        return self._gathered(keys), self._gathered(values)

    def _gathered(self, stored: Tensor) -> Tensor:
        return torch.cat([stored[span.slot, :, : span.end] for span in self._spans], dim=1)[None]


def _places(ranges: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each token of the ranges laid end to end: which range it is in, and its position."""
    lengths = torch.tensor([end - start for start, end in ranges])
    segment = torch.repeat_interleave(torch.arange(len(ranges)), lengths)
    position = torch.cat([torch.arange(start, end) for start, end in ranges])
    return segment.to(device), position.to(device)


class DecodeStep:
    """One new token for each of the first slots, which hold `lengths` tokens."""

    def __init__(
        self, tokens: Sequence[int], lengths: Sequence[int], capacity: int, device: torch.device
    ) -> None:
        self._count = len(tokens)
        width = -(-(max(lengths) + 1) // _WIDTH_STEP) * _WIDTH_STEP
        self._width = min(capacity, width)
        self._rows = torch.arange(self._count, device=device)
        self._at = torch.tensor(lengths, device=device)
        self.input_ids = torch.tensor(tokens, device=device)[:, None]
        self.position_ids = self._at[:, None]
        columns = torch.arange(self._width, device=device)
        self.mask = (columns[None] <= self._at[:, None])[:, None, None]

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> _KeysValues:
        keys[self._rows, :, self._at] = new[0][:, :, 0]
        values[self._rows, :, self._at] = new[1][:, :, 0]
        return keys[: self._count, :, : self._width], values[: self._count, :, : self._width]


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

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another."""
        if source == target or not length:
            return
        for stored in (*self.keys, *self.values):
            stored[target, :, :length] = stored[source, :, :length]


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # theirs has no types
    is_sliding = False

    def __init__(self, cache: SlotCache, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs has no types
        self._cache, self._index = cache, index
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> _KeysValues:
        assert self._cache.step is not None, "set the cache's step before a forward pass"
        keys, values = self._cache.keys[self._index], self._cache.values[self._index]
        return self._cache.step.store(keys, values, (key_states, value_states))

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
