"""Where an element that is passed over as a whole ends among a page's pieces (dom.pieces)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from openchat_cli.data.dom import STRIDE

# A formula's own markup is never nested deeper; what is, is not a formula.
_DEEPEST = 200
ENDLESS: Final[tuple[()]] = ()


def end_of(parts: Sequence[str | None], at: int, name: str) -> int | None:
    """The place of the end tag of the element of that name in whose inside `at` is."""
    depth = 1
    start, end = f"<{name}", f"</{name}>"
    for place in range(at + 1, len(parts), STRIDE):
        tag = parts[place]
        if tag == end:
            depth -= 1
            if depth == 0:
                return place
        elif tag and parts[place + 1] is None and tag.startswith(start):
            depth += 1
            if depth > _DEEPEST:
                break
    return None


def formula(parts: Sequence[str | None], at: int, name: str) -> tuple[int, int] | tuple[()] | None:
    """The places of the annotation's tag and of the element's own end tag.

    None where it has no annotation, ENDLESS where it has no end.
    """
    depth, begin = 1, None
    start, end = f"<{name}", f"</{name}>"
    for place in range(at + 1, len(parts), STRIDE):
        tag = parts[place]
        if tag is None or parts[place + 1] is not None:
            continue
        if tag == end:
            depth -= 1
            if depth == 0:
                return None if begin is None else (begin, place)
        elif tag.startswith(start):
            depth += 1
            if depth > _DEEPEST:
                break
        elif begin is None and tag.startswith("<annotation") and "tex" in tag:
            begin = place
    return ENDLESS
