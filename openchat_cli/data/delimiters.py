"""Which runs of `*`, `_` and `~~` a reader pairs: CommonMark 0.31's procedure for emphasis.

Used where a block has emphasis of its own beside literal delimiters, to leave out the backslashes
that nobody needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openchat_cli.data.marks import Range, flanking, flanking_underscore

Pairs = set[tuple[int, int, int]]  # (place of the opener, place of the closer, how many)

_DELIMITERS = re.compile(r"[*_~]+")
_RUN = re.compile(r"\*+|_+|~+")
_LEAST_WORK = 48  # runs looked at for a block of any length


@dataclass(slots=True)
class _Run:
    char: str
    start: int
    end: int
    length: int  # before any of it was taken
    opens: bool
    closes: bool


def differ(text: str) -> bool:
    """Whether runs have different lengths: some that could pair may not then."""
    return len(set(map(len, _RUN.findall(text)))) > 1


def fewest(
    text: str, places: set[int], tried: Sequence[int], groups: Sequence[Sequence[Range]]
) -> set[int]:
    """The `places` of backslashes without those `tried`, from the last on, that nobody needs.

    `groups` are the ranges that may hold delimiters: outside links, then in each link's text. A
    block with very many of them keeps all its backslashes.
    """
    if len(tried) * len(_DELIMITERS.findall(text)) > max(_LEAST_WORK, len(text)):
        return places
    views = [(text, ranges) for ranges in groups]
    # To some readers a link's text ends as a block does: with white space, not with a bracket.
    views += [(text[: ranges[-1][1]], ranges) for ranges in groups[1:] if ranges]
    wanted = [_pairs(view, ranges, places) for view, ranges in views]
    kept = places.difference(tried)
    if all(
        _pairs(view, ranges, kept) == pairs
        for (view, ranges), pairs in zip(views, wanted, strict=True)
    ):
        return kept
    kept = set(places)
    for place in sorted(tried, reverse=True):
        kept.discard(place)
        if any(
            _pairs(view, ranges, kept) != pairs
            for (view, ranges), pairs in zip(views, wanted, strict=True)
        ):
            kept.add(place)
    return kept


def _pairs(text: str, ranges: Sequence[Range], escaped: set[int]) -> Pairs:
    found: Pairs = set()
    waiting: list[_Run] = []
    for run in _runs(text, ranges, escaped):
        while run.closes and run.start < run.end:
            index = _opener(waiting, run)
            if index is None:
                break
            opener = waiting[index]
            count = min(2, opener.end - opener.start, run.end - run.start)
            del waiting[index + 1 :]
            opener.end -= count
            found.add((opener.end, run.start, count))
            run.start += count
            if opener.start == opener.end:
                waiting.pop()
        if run.opens and run.start < run.end:
            waiting.append(run)
    return found


def _opener(waiting: Sequence[_Run], closer: _Run) -> int | None:
    for index in range(len(waiting) - 1, -1, -1):
        opener = waiting[index]
        if opener.char != closer.char:
            continue
        both = closer.opens or opener.closes
        odd = both and (opener.length + closer.length) % 3 == 0
        if closer.char == "~" or not odd or (opener.length % 3 == closer.length % 3 == 0):
            return index
    return None


def _runs(text: str, ranges: Sequence[Range], escaped: set[int]) -> list[_Run]:
    runs: list[_Run] = []
    end = -1
    for start, stop in ranges:
        while found := _DELIMITERS.search(text, max(start, end), stop):
            at = start = found.start()
            if at in escaped:
                start, end = at + 1, -1
                continue
            char, end = text[at], at + 1
            while end < len(text) and text[end] == char and end not in escaped:
                end += 1
            if char != "~" or end - at == 2:
                runs.append(_run(text, at, end))
    return runs


def _run(text: str, start: int, end: int) -> _Run:
    char = text[start]
    before, after = text[start - 1 : start], text[end : end + 1]
    left, right = (flanking_underscore if char == "_" else flanking)(before, after)
    return _Run(char, start, end, end - start, left, right)
