"""Square brackets: which literal ones a reader would take for a link's or an image's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_BRACKET = re.compile(r"[\[\]]")
_PARENTHESES = r"\((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*+\))*+\)"  # inside a target, two deep
_TAIL = re.compile(
    rf"\]\(\s*+(?:<[^<>\n]*+>|(?!<)(?:[^\s()\\]|\\.|{_PARENTHESES})*+)"
    r"(?:\s++(?:\"[^\"]*+\"|'[^']*+'|\([^()]*+\)))?+\s*+\)"
)


class Link(NamedTuple):
    """A link that is meant: its `[`, its `](` and its end."""

    opening: int
    closing: int
    end: int


class _Opener(NamedTuple):
    place: int
    meant: bool
    image: bool


def escapes(text: str, literal: Sequence[tuple[int, int]], links: Sequence[Link]) -> set[int]:
    """Brackets that would make a link or image of text, or take the text of a link that is meant.

    `literal` are the ranges of text that may hold brackets. CommonMark's procedure with a stack.
    """
    events = [
        (match.start(), match[0])
        for start, end in literal
        for match in _BRACKET.finditer(text, start, end)
    ]
    for link in links:
        events += [(link.opening, "open"), (link.closing, "close")]
    if links:
        events.sort()
    found: set[int] = set()
    stack: list[_Opener] = []
    dead = 0  # openers before that one stand before a link, and can't begin one around it
    for place, kind in events:
        if kind == "[":
            stack.append(_Opener(place, meant=False, image=text[place - 1 : place] == "!"))
        elif kind == "open":
            stack.append(_Opener(place, meant=True, image=False))
            if text[place - 1 : place] == "!":
                found.add(place - 1)
        elif kind == "close":
            while stack and not stack[-1].meant:
                found.add(stack.pop().place)
            if stack:
                stack.pop()
            dead = len(stack)
        elif stack:
            opener = stack[-1]
            can = opener.meant or opener.image or len(stack) > dead
            if opener.meant or (can and _TAIL.match(text, place)):
                found.add(place)
            else:
                stack.pop()
                dead = min(dead, len(stack))
    return found
