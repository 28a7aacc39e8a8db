"""Which runs of `*`, `_` and `~~` a reader pairs: CommonMark 0.31's procedure for emphasis.

A block's text holds delimiters that are meant and literal characters that only look like them. The
procedure is gone through from left to right; where it would make a pair that nobody wants, the
literal partner gets its backslash. So each backslash stops a pair that would be made without it.
What later backslashes may have made needless is tried once more, within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import pairwise

from openchat_cli.data.flanking import flanking, flanking_underscore

_LEAST_WORK = 96  # runs looked at again for a block of any length

Pairs = set[tuple[int, int, int]]  # (place of the opener, place of the closer, how many)


# Neighbouring delimiters of one kind in a text: start, end, whether all are literal (or all meant).
Segment = tuple[int, int, bool]


class _Run:
    """A run as the reader sees it; `start` and `end` move as it is used up."""

    __slots__ = ("char", "closes", "end", "first", "last", "length", "literal", "opens", "start")

    def __init__(self, text: str, start: int, end: int, literal: bool) -> None:
        self.char = text[start]
        self.first = self.start = start
        self.last = self.end = end
        self.literal = literal
        can = flanking_underscore if self.char == "_" else flanking
        self.opens, self.closes = can(text[start - 1 : start], text[end : end + 1])
        self.length = end - start
        if self.char == "~":
            self.start += self.length % 2  # they count in twos, and by no other rule


class _Conflicts:
    """What the procedure found: runs to escape, and how many of the wanted pairs were made."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self.doubtful: list[_Run] = []
        self.made = 0


def escapes(text: str, segments: Sequence[Segment], ends: Sequence[int]) -> set[int]:
    """Which literal delimiters must have a backslash.

    `segments` in the order of the text. `ends` are the places at which a reader may think that the
    text is over: to some a link's text ends as a block does, with white space.
    """
    if not ends and all(literal for _, _, literal in segments):
        places, doubtful = _all_literal(text, segments)
        return _fewest([text], segments, [set()], places, doubtful) if doubtful else places
    views = [text, *(text[:end] for end in ends)]
    wanted = [_wanted(view, segments) for view in views]
    places = _touching(text, segments)
    doubtful = {place for place in places if text[place] != "~"}
    for _ in views:
        before = len(places)
        for view, pairs in zip(views, wanted, strict=True):
            found = _procedure(_runs(view, segments, places), pairs)
            for run in found.runs:
                places.update(_to_escape(run))
            for run in found.doubtful:
                doubtful.update(_to_escape(run))
        if len(places) == before:
            break
    return _fewest(views, segments, wanted, places, doubtful) if doubtful else places


# What decides which closers an opener is paired with: whether it closes too, its length modulo 3.
_Class = tuple[bool, int]


def _all_literal(text: str, segments: Sequence[Segment]) -> tuple[set[int], set[int]]:
    """(places, those that may be needless) where no delimiter is meant: no pair may be made.

    So a closer has all openers escaped that it could be paired with.
    """
    places: set[int] = set()
    doubtful: set[int] = set()
    waiting: dict[str, dict[_Class, list[range]]] = {"*": {}, "_": {}, "~": {}}
    # By place of a closer: openers escaped because of it that not every other one would need.
    freed: dict[int, list[range]] = {}
    for start, end, _ in segments:
        char = text[start]
        length = end - start
        can = flanking_underscore if char == "_" else flanking
        opens, closes = can(text[start - 1 : start], text[end : end + 1])
        openers = waiting[char]
        if char == "~":
            if length > 1:
                if closes and openers:
                    for run in openers.pop((False, 0)):
                        places.update(run)
                if opens:
                    openers.setdefault((False, 0), []).append(range(start + length % 2, end, 2))
            continue
        if closes and openers:
            kinds = [kind for kind in openers if _pairs(kind, opens, length)]
            for kind in kinds:
                escaped = openers.pop(kind)
                for run in escaped:
                    places.update(run)
                    if len(run) > 1:
                        doubtful.update(run)  # perhaps a part of it is enough
                    for other in freed.pop(run.start, ()):
                        doubtful.update(other)
                if opens and kind != (closes, length % 3):
                    freed.setdefault(start, []).extend(escaped)
        if opens:
            openers.setdefault((closes, length % 3), []).append(range(start, end))
    return places, doubtful


def _pairs(kind: _Class, opens: bool, length: int) -> bool:
    """Whether an opener of that class is paired with a closer that opens too or doesn't."""
    closes_too, rest = kind
    odd = (opens or closes_too) and (rest + length) % 3 == 0
    return not odd or rest == length % 3 == 0


def _wanted(text: str, segments: Sequence[Segment]) -> Pairs:
    """The pairs of what is meant."""
    meant = [segment for segment in segments if not segment[2]]
    pairs: Pairs = set()
    if meant:
        _procedure(_runs(text, meant, ()), pairs, collect=True)
    return pairs


def _touching(text: str, segments: Sequence[Segment]) -> set[int]:
    """Literal delimiters that stand beside meant ones of their kind."""
    found: set[int] = set()
    for one, other in pairwise(segments):
        (first, edge, literal), (start, end, too) = one, other
        if edge == start and literal != too and text[first] == text[start]:
            step = 2 if text[start] == "~" else 1  # a tilde alone means nothing
            found.update(range(edge - 1, first - 1, -step) if literal else range(start, end, step))
    return found


def _to_escape(run: _Run) -> range:
    """All of a run, but of tildes every second one: one alone means nothing."""
    if run.char == "~":
        return range(run.first + run.length % 2, run.last, 2)
    return range(run.first, run.last)


def _runs(text: str, segments: Sequence[Segment], escaped: Set[int] | tuple[()]) -> list[_Run]:
    runs: list[_Run] = []
    if not escaped:
        for start, end, literal in segments:
            if runs and runs[-1].last == start and runs[-1].char == text[start]:
                # One run to the reader. Where some of it is meant, it can't be left out.
                first, literal = runs[-1].first, runs[-1].literal and literal
                runs[-1] = _Run(text, first, end, literal)
            else:
                runs.append(_Run(text, start, end, literal))
        return [run for run in runs if run.char != "~" or run.length > 1]
    for start, end, literal in segments:
        at = start
        while at < end:
            if at in escaped:
                at += 1
                continue
            stop = at + 1
            while stop < end and stop not in escaped:
                stop += 1
            last = runs[-1] if runs else None
            if last and last.last == at and last.char == text[at]:
                # One run to the reader. Where some of it is meant, it can't be left out.
                runs[-1] = _Run(text, last.first, stop, last.literal and literal)
            else:
                runs.append(_Run(text, at, stop, literal))
            at = stop
    return [run for run in runs if run.char != "~" or run.length > 1]


def _procedure(runs: Sequence[_Run], wanted: Pairs, *, collect: bool = False) -> _Conflicts:
    """Pair the runs, and escape (leave out) what would make pairs that aren't wanted.

    With `collect` whatever is found goes to `wanted` instead.
    """
    found = _Conflicts()
    waiting: dict[str, list[_Run]] = {"*": [], "_": [], "~": []}
    bottom: dict[tuple[str, bool, int], int] = {}  # no opener before that place is for such a run
    partners: dict[int, list[_Run]] = {}  # place of a closer -> openers escaped because of it
    for run in runs:
        openers = waiting[run.char]
        while run.closes and run.start < run.end and openers:
            key = (run.char, run.opens, run.length % 3)
            index = _opener(openers, run, bottom.get(key, -1))
            if index is None:
                bottom[key] = run.first
                break
            opener = openers[index]
            count = min(2, opener.end - opener.start, run.end - run.start)
            pair = (opener.end - count, run.start, count)
            if collect:
                wanted.add(pair)
            elif pair not in wanted:
                if opener.literal:
                    _escape(found, opener, partners)
                    partners.setdefault(run.first, []).append(opener)
                    del openers[index]
                    continue
                if run.literal:
                    _escape(found, run, partners)
                    run.start = run.end
                    break
            found.made += pair in wanted
            opener.end -= count
            run.start += count
            for others in waiting.values():
                while others and others[-1].first > opener.first:
                    others.pop()
            if opener.start == opener.end:
                openers.pop()
        if run.opens and run.start < run.end:
            openers.append(run)
    return found


def _escape(found: _Conflicts, run: _Run, partners: dict[int, list[_Run]]) -> None:
    found.runs.append(run)
    if run.length > 1 + (run.char == "~"):
        found.doubtful.append(run)  # perhaps a part of it is enough
    # What was escaped because of this one may be free again.
    found.doubtful += partners.pop(run.first, ())


def _opener(openers: Sequence[_Run], closer: _Run, bottom: int) -> int | None:
    for index in range(len(openers) - 1, -1, -1):
        opener = openers[index]
        if opener.first < bottom:
            return None
        both = closer.opens or opener.closes
        odd = both and (opener.length + closer.length) % 3 == 0
        if closer.char == "~" or not odd or (opener.length % 3 == closer.length % 3 == 0):
            return index
    return None


def _fewest(
    views: Sequence[str],
    segments: Sequence[Segment],
    wanted: Sequence[Pairs],
    places: set[int],
    doubtful: Set[int],
) -> set[int]:
    """`places` without the doubtful ones, from the last on, that nobody needs."""
    work = max(_LEAST_WORK, len(views[0]) // 4) // (len(segments) * len(views))
    for place in sorted(doubtful, reverse=True)[:work]:
        places.discard(place)
        for view, pairs in zip(views, wanted, strict=True):
            found = _procedure(_runs(view, segments, places), pairs)
            if found.runs or found.made != len(pairs):
                places.add(place)
                break
    return places
