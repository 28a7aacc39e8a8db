"""Which conversations each rank sees at each step: a pure function of a few numbers.

Step s takes conversations [sB, (s+1)B) of the epochs' permutations laid end to end, so that every
step but the last is exactly B conversations, whatever the number of ranks, and every conversation
comes once an epoch. Nothing is remembered: a resumed run asks for the next step and neither repeats
nor skips data.

Packed: the step's conversations are dealt, longest first, each to the least filled bin (longest
processing time first), into the fewest bins of at most `max_tokens` that the ranks can share
evenly. Length-grouped: the original's way, conversations of like length padded to the longest.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from openchat_cli.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Lengths = NDArray[np.int64]

_GROUP = 50  # micro-batches that are sorted by length together, as in transformers' sampler


@dataclass(frozen=True, slots=True)
class Bin:
    """One rank's micro-batch: conversations, and the tokens it computes (padding included)."""

    conversations: tuple[int, ...]
    slots: int


# micro-steps of one optimiser step, each with one bin a rank (empty where a rank is idle)
StepPlan = tuple[tuple[Bin, ...], ...]

_IDLE = Bin((), 0)


class Plan:
    """The whole run's plan over the lengths (tokens) of the training conversations."""

    def __init__(
        self,
        lengths: Lengths,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        world_size: int,
        max_tokens: int,
        micro_batch: int | None = None,
    ) -> None:
        """`micro_batch` None packs; a number groups by length in micro-batches of that many."""
        self.lengths = lengths
        self.count = len(lengths)
        self.steps = -(-epochs * self.count // batch_size)
        self._batch_size, self._epochs, self._seed = batch_size, epochs, seed
        self._world_size, self._max_tokens, self._micro = world_size, max_tokens, micro_batch
        if micro_batch is None:
            check_fits(lengths, max_tokens)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def conversations(self, step: int) -> list[int]:
        """The conversations of a step (counted from 0), in the order of the permutations."""
        first = step * self._batch_size
        last = min(first + self._batch_size, self._epochs * self.count)
        taken: list[int] = []
        while first < last:
            epoch, at = divmod(first, self.count)
            end = min(self.count, at + last - first)
            taken += self._order(epoch)[at:end].tolist()
            first += end - at
        return taken

    def step(self, step: int) -> StepPlan:
        """The micro-steps of a step, with one bin for each rank."""
        chosen = self.conversations(step)
        if self._micro is not None:
            return self._padded(chosen, self._micro)
        return _pack(chosen, self.lengths[chosen].tolist(), self._world_size, self._max_tokens)

    def epochs_done(self, steps: int) -> float:
        """How many epochs `steps` steps make."""
        seen = min(steps * self._batch_size, self._epochs * self.count)
        return seen / self.count

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch is complete after this step (counted from 0)."""
        return int(self.epochs_done(step + 1)) > int(self.epochs_done(step))

    def of_one_epoch(self) -> tuple[int, float]:
        """(micro-steps, useful-token share) over the first epoch's steps.

        The share is real tokens over ranks · the fullest bin, summed over micro-steps: what padding
        and waiting for the fullest rank leave over.
        """
        real = spent = micro_steps = 0
        for step in range(-(-self.count // self._batch_size)):
            real += int(self.lengths[self.conversations(step)].sum())
            plan = self.step(step)
            micro_steps += len(plan)
            spent += sum(len(bins) * max(bin_.slots for bin_ in bins) for bins in plan)
        return micro_steps, real / max(1, spent)

    def _epoch_order(self, epoch: int) -> Lengths:
        order = permutation(self.count, self._seed, epoch)
        return order if self._micro is None else _by_length(order, self.lengths, self._micro)

    def _padded(self, chosen: list[int], micro: int) -> StepPlan:
        ranks = self._world_size
        plan: list[tuple[Bin, ...]] = []
        for start in range(0, len(chosen), micro * ranks):
            window = chosen[start : start + micro * ranks]
            plan.append(tuple(self._padded_bin(window[rank::ranks]) for rank in range(ranks)))
        return tuple(plan)

    def _padded_bin(self, conversations: list[int]) -> Bin:
        if not conversations:
            return _IDLE
        longest = int(self.lengths[conversations].max())
        return Bin(tuple(conversations), longest * len(conversations))


def in_order(lengths: Lengths, *, world_size: int, max_tokens: int) -> StepPlan:
    """All conversations once, packed: how evaluation goes through its set."""
    check_fits(lengths, max_tokens)
    return _pack(list(range(len(lengths))), lengths.tolist(), world_size, max_tokens)


def permutation(count: int, seed: int, epoch: int) -> Lengths:
    """0 … count-1 in an order that depends on seed and epoch alone, on any machine and version.

    The order is by SplitMix64 of the index (Steele, Lea, Flood 2014), since random generators of
    libraries may change between their releases.
    """
    import numpy as np

    start = _mix(np.array([seed, epoch], dtype=np.uint64))
    keys = _mix(np.arange(count, dtype=np.uint64) ^ _mix(start[:1] + start[1:])[0])
    return np.argsort(keys, kind="stable")


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    import numpy as np

    mixed = value + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _by_length(order: Lengths, lengths: Lengths, micro: int) -> Lengths:
    """The permutation with each run of some micro-batches sorted, longest first."""
    import numpy as np

    run = max(1, min(len(order) // (micro * 4), _GROUP)) * micro
    runs = [order[start : start + run] for start in range(0, len(order), run)]
    return np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in runs])


def check_fits(lengths: Lengths, max_tokens: int) -> None:
    """Refuse a conversation that is longer than a bin."""
    longest = int(lengths.argmax())
    if lengths[longest] > max_tokens:
        message = f"record {longest + 1} has {lengths[longest]} tokens, a bin has {max_tokens}"
        raise UsageError(message, f"--max-tokens {lengths[longest]} or more")


def _pack(chosen: list[int], sizes: list[int], ranks: int, cap: int) -> StepPlan:
    """Longest processing time first (Graham 1969), with a cap; ranks · k bins for the least k."""
    longest_first = sorted(zip(sizes, chosen, strict=True), key=lambda pair: (-pair[0], pair[1]))
    rounds = max(1, -(-sum(sizes) // (ranks * cap)))
    while True:
        bins = _deal(longest_first, ranks * rounds, cap)
        if bins is not None:
            break
        rounds += 1
    bins.sort(key=lambda bin_: -bin_.slots)
    plan = [bins[at : at + ranks] for at in range(0, len(bins), ranks)]
    # Every other row reversed, so that no rank always has the fuller bin.
    return tuple(tuple(row if at % 2 == 0 else row[::-1]) for at, row in enumerate(plan))


def _deal(longest_first: list[tuple[int, int]], count: int, cap: int) -> list[Bin] | None:
    filled = [(0, at) for at in range(count)]
    holds: list[list[int]] = [[] for _ in range(count)]
    for size, conversation in longest_first:
        load, at = filled[0]
        if load + size > cap:
            return None
        heapq.heapreplace(filled, (load + size, at))
        holds[at].append(conversation)
    return [Bin(tuple(holds[at]), load) for load, at in filled]
