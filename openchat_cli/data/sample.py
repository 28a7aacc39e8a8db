"""`--sample`: a part of the conversations that is the same on every run.

The rank of a conversation is xxh3-64 of "SEED:sample:ID"; the lowest ranks are taken, ties by
place, in the order of the input. So a smaller sample is a part of a larger one of the same seed,
and a sample of a sample is the sample. (The evaluation split ranks "SEED:ID": were it the same
text, a sample would be made of what the whole data set holds out.)
"""

from __future__ import annotations

import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core.errors import UsageError
from openchat_cli.data import split


@dataclass(frozen=True)
class Amount:
    """A count of conversations, or a share of them."""

    count: int | None = None
    share: float = 1.0

    def of(self, total: int) -> int:
        """How many to take of so many: of a share the nearest number, and at least one."""
        if self.count is not None:
            return min(self.count, total)
        return min(total, max(1, round(self.share * total)))


def amount(text: str) -> Amount:
    """`1000`, `10%` or `0.1`; UsageError for what is no count or share."""
    found = re.fullmatch(r"\+?(\d+)(\.\d*)?\s*(%)?", text.strip().replace("_", ""))
    hint = "a count such as 1000, or a share such as 10% or 0.1"
    if found is None:
        raise UsageError(f"--sample {text}: not a number of conversations", hint)
    if found[2] is None and found[3] is None:
        if int(found[1]) == 0:
            raise UsageError(f"--sample {text}: at least one conversation is needed", hint)
        return Amount(count=int(found[1]))
    share = float(found[1] + (found[2] or "")) / (100 if found[3] else 1)
    if not 0 < share <= 1:
        raise UsageError(f"--sample {text}: a share is more than 0 and at most 100%", hint)
    return Amount(share=share)


def taken(
    lines: Iterable[tuple[str, bytes]], wanted: Amount | None, seed: int, folder: Path | None
) -> Iterator[bytes]:
    """The lines that are taken, of (id, line); all of them at once where `wanted` is None.

    Else they wait in an unnamed file in `folder`: memory holds a rank for each and no text.
    """
    if wanted is None:
        yield from (line for _, line in lines)
        return
    ranks = array("Q")
    with tempfile.TemporaryFile(dir=folder) as waiting:
        for name, line in lines:
            ranks.append(split.rank(seed, f"sample:{name}"))
            waiting.write(line)
        places = split.held_out(ranks, wanted.of(len(ranks)))
        waiting.seek(0)
        yield from (line for place, line in enumerate(waiting) if place in places)
