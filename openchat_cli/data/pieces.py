"""The pieces of one block's text, and how they become its Markdown.

Escaping waits until all of them are there because whether a character means something depends on
its neighbours: a lone `*` is only a star unless another one follows.
"""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import accumulate

from openchat_cli.data import emphasis, literals, marks
from openchat_cli.data.brackets import Link
from openchat_cli.data.dom import SPACE
from openchat_cli.data.emphasis import DELIMITERS, Emphasis, Mark

HARD_BREAK = "  \n"
SPACES = (" ", "\n")
_AUTOLINK = re.compile(r"[A-Za-z][\w+.-]{1,31}:[^\s<>]*|[\w.+-]+@[\w.-]+")
_ANY_BREAK = re.compile(r" *\n")
_NOWHERE: Set[int] = frozenset()

# The last emphasis that was written as one piece: its place, kind and text.
Whole = tuple[int, Emphasis, str]
NO_WHOLE: Whole = (-1, "em", "")


class Pieces:
    """Pieces of text and markup in reading order."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._literal: list[int] = []  # pieces of text that hold something with a meaning
        self._open: list[Mark] = []
        self._closed: list[Mark] = []
        self._depth: dict[str, int] = {}
        self._whole = NO_WHOLE
        self._formulas: list[int] = []  # places
        self._wholes: list[tuple[int, int]] = []  # emphasis in one piece: place, delimiter's length
        self._code = (-1, "")  # the last span of code: its place and text
        self._bracketed: list[int] = []  # pieces of text with square brackets
        self._dollars: list[int] = []  # pieces of text with dollars
        self._exclaims = False  # whether a link stands right behind an exclamation mark
        self._plain = True  # whether the pieces, as they stand, are the block's Markdown
        self._links: list[tuple[int, int]] = []  # places of links in one piece, lengths of texts

    def _begin(self, mark: Mark) -> None:
        self._plain = False
        self._open.append(mark)
        self.pieces.append(DELIMITERS[mark.kind])

    def _close_to(self, kind: str) -> None:
        while self._open:
            mark = self._open.pop()
            self._depth[mark.kind] = 0
            self._finish(mark)
            if mark.kind == kind:
                return

    def _finish(self, mark: Mark) -> None:
        """Move the white space at both ends outside, where the delimiters can see the words."""
        pieces = self.pieces
        first, last = mark.start + 1, len(pieces) - 1
        lead = trail = ""
        while first <= last and pieces[first][:1] in SPACE:  # an empty one too
            rest = pieces[first].lstrip(SPACE)
            lead += pieces[first][: len(pieces[first]) - len(rest)]
            pieces[first] = rest
            if rest:
                break
            first += 1
        if first > last:
            pieces[mark.start] = lead
            return
        while pieces[last][-1:] in SPACE:
            rest = pieces[last].rstrip(SPACE)
            trail = pieces[last][len(rest) :] + trail
            pieces[last] = rest
            if rest:
                break
            last -= 1
        if lead and mark.start and pieces[mark.start - 1][-1:] in SPACES:
            lead = ""  # two line ends would end the paragraph
        alone = mark.kind == "link" and first == last and not mark.title
        if alone and is_autolink(mark.target, pieces[first]):
            pieces[mark.start], pieces[first] = lead, f"<{pieces[first]}>"
            for places in (self._literal, self._bracketed, self._dollars):
                if places and places[-1] == first:
                    places.pop()
        else:
            if lead:
                pieces[mark.start] = lead + pieces[mark.start]
            mark.end = len(pieces)
            pieces.append(self._closing(mark))
            self._closed.append(mark)
        if trail:
            pieces.append(trail)

    def _closing(self, mark: Mark) -> str:
        if mark.kind != "link":
            return DELIMITERS[mark.kind]
        return f"]({marks.link_target(mark.target, mark.title)})"

    # --- the whole ---

    def take(self) -> str:
        """The paragraph so far, ready to stand at the start of a line; empty again afterwards."""
        text, places = self._joined(in_flow=True)
        if not places and marks.is_plain_start(text):
            return text
        return literals.with_backslashes(text, places | marks.line_starts(text, places))

    def take_line(self) -> str:
        """The same on one line, for a heading."""
        text, places = self._joined()
        if text[-1:] == "#":
            places = places | marks.closing_hashes(text)
        text = literals.with_backslashes(text, places)
        return _ANY_BREAK.sub(" ", text) if "\n" in text else text

    def take_cell(self) -> str:
        """The same for a table's cell."""
        text, places = self._joined()
        if places:
            text = literals.with_backslashes(text, places)
        if "\n" in text:
            text = text.replace(HARD_BREAK, "<br>").replace("\n", " ")
        return text.replace("|", "\\|") if "|" in text else text

    def _joined(self, *, in_flow: bool = False) -> tuple[str, Set[int]]:
        """The text and where backslashes must go; all is forgotten."""
        pieces = self.pieces
        if self._plain:
            text = pieces[0] if len(pieces) == 1 else "".join(pieces)
            pieces.clear()
            if self._wholes or self._links:
                self._wholes.clear()
                self._links.clear()
                self._whole = NO_WHOLE
            return text.strip(SPACE), _NOWHERE
        stripped = bool(self._closed) and not self._open  # below, at its first piece
        if self._open or self._closed:
            self._close_to("")
            if self._closed:
                emphasis.settle(pieces, self._closed)
                first = emphasis.neighbour(pieces, -1, 1)
                pieces[first] = pieces[first].lstrip(SPACE)
            pieces[-1] = pieces[-1].rstrip(SPACE)
        text = pieces[0] if len(pieces) == 1 else "".join(pieces)
        places = _NOWHERE
        if (
            self._literal
            or self._exclaims
            or (self._dollars and self._formulas)
            or (self._bracketed and "](" in text)
        ):
            places = self._places(text, in_flow=in_flow)
        self._forget()
        if not stripped:
            lead = len(text) - len(text.lstrip(SPACE))
            if lead:
                text, places = text[lead:], {place - lead for place in places if place >= lead}
        end = text.rstrip(SPACE)
        if places and len(end) < len(text):
            places = {place for place in places if place < len(end)}
        return end, places

    def _forget(self) -> None:
        self.pieces.clear()
        for state in (self._literal, self._bracketed, self._dollars, self._formulas, self._links):
            if state:
                state.clear()
        if self._closed or self._wholes:
            self._closed.clear()
            self._wholes.clear()
        self._depth.clear()
        self._whole, self._exclaims, self._plain = NO_WHOLE, False, True

    def _places(self, text: str, *, in_flow: bool) -> set[int]:
        """Where backslashes must go."""
        pieces = self.pieces
        if len(pieces) == 1:
            # It may have lost white space at its ends.
            whole = [(0, len(text))]
            brackets = whole if self._bracketed and "](" in text else ()
            scene = literals.Scene(brackets=brackets, in_flow=in_flow)
            return literals.escapes(text, whole if self._literal else (), scene)
        ends = list(accumulate(map(len, pieces)))
        ranges = [(ends[i] - len(pieces[i]), ends[i]) for i in self._literal]
        scene = literals.Scene(in_flow=in_flow)
        if "](" in text:
            scene.brackets = [(ends[i] - len(pieces[i]), ends[i]) for i in self._bracketed]
            scene.links = self._all_links(ends)
        if self._wholes or self._closed:
            found = emphasis.delimiters(pieces, self._closed, ends)
            for place, width in self._wholes:
                start = ends[place] - len(pieces[place])
                found += [(start, start + width), (ends[place] - width, ends[place])]
            scene.emphasis = found
        if self._formulas and self._dollars:
            scene.formulas = [(ends[i] - len(pieces[i]), ends[i]) for i in self._formulas]
            scene.dollars = [(ends[i] - len(pieces[i]), ends[i]) for i in self._dollars]
        return literals.escapes(text, ranges, scene)

    def _all_links(self, ends: list[int]) -> list[Link]:
        pieces = self.pieces
        found = [
            Link(ends[mark.start] - 1, ends[mark.end] - len(pieces[mark.end]), ends[mark.end])
            for mark in self._closed
            if mark.kind == "link"
        ]
        for place, length in self._links:
            start = ends[place] - len(pieces[place])
            found.append(Link(start, start + length + 1, ends[place]))
        return sorted(found)


def is_autolink(target: str, text: str) -> bool:
    """Whether `<text>` reads as this link."""
    return (text == target or f"mailto:{text}" == target) and _AUTOLINK.fullmatch(text) is not None
