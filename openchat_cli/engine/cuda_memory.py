"""How many slots a GPU's memory holds: measured once the weights are there, then divided."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

from openchat_cli.core.errors import UsageError

_GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """What a device has, in bytes, with the weights on it.

    `working`: what the largest step takes besides, and gives back.
    """

    total: int
    free: int
    working: int


def measure(device: torch.device, largest_step: Callable[[], object]) -> Memory:
    """Run the largest step there is and see what it takes."""
    with torch.cuda.device(device):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        largest_step()
        torch.cuda.synchronize()
        working = torch.cuda.max_memory_allocated() - before
        gc.collect()
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
    return Memory(total, free, working)


def slots_that_fit(
    memory: Memory, *, utilization: float, asked: int, context: int, token_bytes: int
) -> int:
    """How many slots of `context` tokens there is room for, at most `asked`.

    `utilization` is the share of the device that may be in use in all: weights, slots, what steps
    take, and other programs. The rest is left for graphs and for what fragments. Raises UsageError
    where not one slot fits.
    """
    left = memory.free - memory.working - round(memory.total * (1 - utilization))
    slot = context * token_bytes
    if left >= slot:
        return min(asked, left // slot)
    message = (
        f"no room for one request of {context} tokens ({slot / _GIB:.2f} GiB): of the GPU's "
        f"{memory.total / _GIB:.1f} GiB {memory.free / _GIB:.2f} are free beside the weights, "
        f"steps take {memory.working / _GIB:.2f}, --gpu-memory-utilization {utilization:g} "
        f"leaves {max(0, left) / _GIB:.2f}"
    )
    shorter = max(0, left) // token_bytes // 16 * 16
    hint = "a smaller model, --quantize int8, or a higher --gpu-memory-utilization"
    raise UsageError(message, f"--context {shorter} fits" if shorter >= 256 else hint)
