"""Emphasis and links in a list of pieces: delimiters that a reader sees as such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from openchat_cli.data.flanking import flanking

Emphasis = Literal["strong", "em", "del"]
# By the tag's name.
EMPHASIS: dict[str, Emphasis] = {
    "strong": "strong",
    "b": "strong",
    "em": "em",
    "i": "em",
    "del": "del",
    "s": "del",
    "strike": "del",
}
DELIMITERS = {"strong": "**", "em": "*", "del": "~~", "link": "["}


@dataclass(slots=True)
class Mark:
    """An emphasis or a link: the pieces that open and close it, and the link's target."""

    kind: str
    start: int
    end: int = -1
    target: str = ""
    title: str = ""


def settle(pieces: list[str], closed: Sequence[Mark]) -> None:
    """Choose delimiters that a reader will see as such."""
    # `***x***` reads as emphasis around strong: inside strong, emphasis is written `_`.
    strong = [mark for mark in closed if mark.kind == "strong"]
    starts = {mark.start for mark in strong}
    edges = starts | {mark.end for mark in strong}
    for mark in closed:
        if mark.kind == "link":
            continue
        first, last = pieces[mark.start + 1][:1], pieces[mark.end - 1][-1:]
        # Between a letter and anything at all they are always seen.
        if not (first.isalnum() and last.isalnum()) and not _is_seen(pieces, mark):
            _as_html(pieces, mark)
        elif mark.kind == "em" and edges:
            _keep_apart(pieces, mark, starts, edges)


def _is_seen(pieces: list[str], mark: Mark) -> bool:
    before = _before(pieces, mark)
    first, last = _char(pieces, mark.start, 1), _char(pieces, mark.end, -1)
    after = _char(pieces, mark.end, 1)
    return flanking(before, first)[0] and flanking(last, after)[1]


def _before(pieces: list[str], mark: Mark) -> str:
    lead = pieces[mark.start][: -len(DELIMITERS[mark.kind])]
    return lead[-1:] or _char(pieces, mark.start, -1)


def _keep_apart(pieces: list[str], mark: Mark, starts: set[int], edges: set[int]) -> None:
    """Write emphasis with `_` where its star would run into those of a strong beside it."""
    if neighbour(pieces, mark.start, -1) in edges or neighbour(pieces, mark.end, 1) in starts:
        if _is_word(_before(pieces, mark), _char(pieces, mark.end, 1)):
            _as_html(pieces, mark)
        else:
            pieces[mark.start] = pieces[mark.start][:-1] + "_"
            pieces[mark.end] = "_"


def _as_html(pieces: list[str], mark: Mark) -> None:
    """Where no delimiters would be read as such."""
    lead = pieces[mark.start][: -len(DELIMITERS[mark.kind])]
    pieces[mark.start] = f"{lead}<{mark.kind}>"
    pieces[mark.end] = f"</{mark.kind}>"


def neighbour(pieces: list[str], index: int, step: int) -> int:
    """The nearest piece on one side that is not empty; out of range at the edge."""
    index += step
    while 0 <= index < len(pieces) and not pieces[index]:
        index += step
    return index


def _char(pieces: list[str], index: int, step: int) -> str:
    """The character next to a piece on one side; "" at the edge of the block."""
    index = neighbour(pieces, index, step)
    inside = 0 <= index < len(pieces)
    return pieces[index][0 if step > 0 else -1] if inside else ""


def delimiters(
    pieces: Sequence[str], closed: Sequence[Mark], ends: Sequence[int]
) -> list[tuple[int, int]]:
    """Where the delimiters of emphasis stand in the joined text; `ends` are where pieces end."""
    found: list[tuple[int, int]] = []
    for mark in closed:
        if mark.kind != "link":
            for index in (mark.start, mark.end):
                bare = pieces[index].rstrip("*_~")
                if len(bare) < len(pieces[index]):
                    found.append((ends[index] - len(pieces[index]) + len(bare), ends[index]))
    return found


def _is_word(*chars: str) -> bool:
    """Whether one of them is a letter or digit: beside it `_` is no delimiter."""
    return any(char.isalnum() for char in chars)
