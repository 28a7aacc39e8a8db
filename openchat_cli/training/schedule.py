"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math


def warmup_steps(total: int, ratio: float) -> int:
    """How many of `total` steps the warm-up takes (rounded up, as Hugging Face's trainer does)."""
    return math.ceil(total * ratio)


def factor(schedule: str, step: int, *, total: int, warmup: int) -> float:
    """What the peak learning rate is multiplied with at `step` (counted from 0).

    The formulas are those of transformers' get_{cosine,linear,constant}_schedule_with_warmup: a
    straight rise from 0 over the warm-up, then half a cosine or a line down to 0, or no change.
    """
    if step < warmup:
        return step / max(1, warmup)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
