"""A decode step whose tensors never move and whose shapes come in a few sizes, so that a CUDA graph
can be made of it once and replayed.

What changes from step to step is in one small tensor of whole numbers (`Inputs`); Python decides
nothing else after the graph is made. Rows that only fill a batch up write to a position at the end
of their slot that no request reaches, and their logits are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openchat_cli.engine.attention import attend_rows

_ALIGN = 16  # positions: what attention kernels like rows of a mask to be a multiple of
_SHORTEST = 256  # positions; below this, shapes would only multiply


def aligned(positions: int) -> int:
    """The next multiple that kernels like."""
    return -(-positions // _ALIGN) * _ALIGN


def capacity(context: int) -> int:
    """Positions of a slot for requests of `context` tokens: one more, that none of them reaches."""
    return aligned(context + 1)


def batch_sizes(slots: int) -> list[int]:
    """The batches that steps are made for, in rising order: 1, 2, 4, 8, 16, 24, 32 … `slots`.

    A step costs about the same for a few rows more, but an idle row still reads its slot.
    """
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, slots + 1, 16)]
    return [size for size in sizes if size < slots] + [slots]


def widths(context: int) -> list[int]:
    """The numbers of positions that steps look at: 256, 384, 512, 768 … the whole context."""
    found: list[int] = []
    size = _SHORTEST
    while size < context:
        found += [size, size * 3 // 2]
        size *= 2
    return [width for width in found if width < context] + [aligned(context)]


def first_that_holds(sizes: Sequence[int], wanted: int) -> int:
    """The smallest of the rising `sizes` that is at least `wanted`."""
    return next(size for size in sizes if size >= wanted)


class Inputs:
    """The numbers that a step is given, at one address: for each slot its row's token, the token's
    position, and where in the slot it is stored.
    """

    def __init__(self, slots: int, capacity: int, device: torch.device) -> None:
        self._idle = capacity - 1
        pinned = device.type == "cuda"
        # Two of them by turns: the copy to the device may still read the last step's.
        self._hosts = [torch.zeros(3, slots, dtype=torch.long, pin_memory=pinned) for _ in range(2)]
        self.numbers = torch.zeros(3, slots, dtype=torch.long, device=device)
        self.fill([], [])

    def fill(self, tokens: Sequence[int], lengths: Sequence[int]) -> None:
        """Set the next step's rows, without waiting for the device; all other slots idle."""
        host = self._hosts.pop(0)
        self._hosts.append(host)
        count = len(tokens)
        host[0, :count] = torch.tensor(tokens, dtype=torch.long)
        host[1, :count] = host[2, :count] = torch.tensor(lengths, dtype=torch.long)
        host[:2, count:] = 0
        host[2, count:] = self._idle
        self.numbers.copy_(host, non_blocking=True)


class StaticStep:
    """One token for each of the first `batch` slots, looking at the first `width` positions.

    Made inside what the graph records: only `inputs` is read again at each replay.
    """

    def __init__(
        self, inputs: Inputs, batch: int, width: int, dtype: torch.dtype, window: int | None
    ) -> None:
        tokens, positions, self._at = inputs.numbers[:, :batch]
        self._batch, self._width = batch, width
        self._rows = torch.arange(batch, device=tokens.device)
        self.input_ids = tokens[:, None]
        self.position_ids = positions[:, None]
        columns = torch.arange(width, device=tokens.device)
        hidden = columns > self.position_ids
        if window is not None:
            hidden |= columns <= self.position_ids - window
        # What attention adds to its scores, once for all layers.
        mask = torch.zeros(batch, width, dtype=dtype, device=tokens.device)
        self._mask = mask.masked_fill_(hidden, float("-inf"))[:, None, None]

    def store(self, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor]) -> None:
        """Append each row's token to its slot."""
        keys[self._rows, :, self._at] = new[0][:, :, 0]
        values[self._rows, :, self._at] = new[1][:, :, 0]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None) -> Tensor:
        """All rows at once."""
        keys = keys[: self._batch, :, : self._width]
        values = values[: self._batch, :, : self._width]
        return attend_rows(query, keys, values, self._mask, scaling)
