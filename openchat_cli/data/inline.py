"""The text of one block, collected piece by piece and escaped as a whole at the end.

Escaping waits for the end because whether a character means something depends on its neighbours: a
lone `*` is only a star unless another one follows.
"""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import accumulate

from openchat_cli.data import emphasis, literals, marks
from openchat_cli.data.brackets import Link
from openchat_cli.data.dom import SPACE, attribute, decode
from openchat_cli.data.emphasis import DELIMITERS, Emphasis, Mark

HARD_BREAK = "  \n"
_BOXES = ("[ ] ", "[x] ")


# What needs a closer look: line ends, references, and all that may mean something in Markdown.
_NOTABLE = re.compile(r"[\\&<`*_~\[\]$\n\t\r\f]")
# What may mean something where it stands; at the edges of a piece the next one decides.
# (Each branch begins with a character: so the search skips to the next of those.)
_RISKY = re.compile(
    r"`|~|\\(?![A-Za-z0-9 ])|&(?![\s=])|<(?![\s=0-9])|\*(?<!\s\*)|\*(?!\s)"
    r"|_(?<![A-Za-z0-9]_)|_(?![A-Za-z0-9])"
)
# What is risky by its neighbours alone can be settled at once; this can't.
_CONTEXT = re.compile(r"[`*_~]|\\\Z|<[!?]|<[^>]*+\Z|&[#\w]*+\Z")
_LOCAL = re.compile(r"[\\&<]")
_AUTOLINK = re.compile(r"[A-Za-z][\w+.-]{1,31}:[^\s<>]*|[\w.+-]+@[\w.-]+")
_NOT_IN_LINK = re.compile(r"[\\&<`*_~\[\]$\n\t\r\f]")
_LINK = re.compile(r"<a [^<>]*?href=\"([^\"]*)\"[^<>]*>([^<]*)</a>")
_SPACES = (" ", "\n")
_LONGEST_CODE = 1000  # that is joined with one that touches it
_ANY_BREAK = re.compile(r" *\n")


def plain_line(source: str) -> str:
    """HTML's text as one line of Markdown if it needs no care at all, else ""."""
    if _NOTABLE.search(source):
        return ""
    line = source.strip(" ")
    return line if marks.is_plain_start(line) else ""


def _with_bare_breaks(text: str) -> str:
    """Text whose line ends have no white space beside them, one for several in a row."""
    first, *middle, last = text.split("\n")
    kept = [bare for line in middle if (bare := line.strip(SPACE))]
    return "\n".join([first.rstrip(SPACE), *kept, last.lstrip(SPACE)])


def one_paragraph(tex: str) -> str:
    """TeX inside a line of text: its own line ends where no line can begin another block."""
    lines = [line.strip(SPACE) for line in tex.splitlines() if line.strip(SPACE)]
    joined = "\n".join(lines)
    return joined if marks.is_plain_start(f".{joined}") else " ".join(lines)


def _settled(text: str, *, at_start: bool) -> str | None:
    """Text whose risks hang on nothing but itself, with its backslashes; None where they don't."""
    found: set[int] = set()
    for match in _LOCAL.finditer(text):
        at = match.start()
        if match[0] != "<":
            if literals.is_misread(text, at):
                found.add(at)
        elif literals.is_tag(text, at):
            found.add(at)
        elif (text[at - 1] == "\n" if at else at_start) and literals.begins_block(text, at):
            return None
    return literals.with_backslashes(text, found)


# The last emphasis that was written as one piece: its place, kind and text.
_Whole = tuple[int, Emphasis, str]
_NO_WHOLE: _Whole = (-1, "em", "")


class Inline:
    """Pieces of text and markup in reading order."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._literal: list[int] = []  # pieces of text that hold something with a meaning
        self._open: list[Mark] = []
        self._closed: list[Mark] = []
        self._depth: dict[str, int] = {}
        self._whole = _NO_WHOLE
        self._formulas: list[int] = []  # places
        self._wholes: list[tuple[int, int]] = []  # emphasis in one piece: place, delimiter's length
        self._code = (-1, "")  # the last span of code: its place and text
        self._bracketed: list[int] = []  # pieces of text with square brackets
        self._dollars: list[int] = []  # pieces of text with dollars
        self._exclaims = False  # whether a link stands right behind an exclamation mark
        self._links: list[tuple[int, int]] = []  # places of links in one piece, lengths of texts

    def text(self, source: str) -> None:
        """Text as it stands in HTML, not empty."""
        pieces = self.pieces
        if _NOTABLE.search(source):
            self._careful(source)
        elif source[0] != " " or (pieces and pieces[-1][-1:] not in _SPACES):
            pieces.append(source)
        elif text := source.lstrip(" "):
            pieces.append(text)

    def _careful(self, source: str) -> None:
        text = decode(source)
        pieces = self.pieces
        if "\n" in text:
            text = _with_bare_breaks(text)
            if text[0] == "\n" and pieces and pieces[-1] != HARD_BREAK:
                self._trim_end()
        if not pieces or pieces[-1][-1:] in _SPACES:
            text = text.lstrip(SPACE)
        if not text:
            return
        if "[" in text or "]" in text:
            self._bracketed.append(len(pieces))
        if "$" in text:
            self._dollars.append(len(pieces))
        if _RISKY.search(text):
            settled = None
            if not _CONTEXT.search(text):
                settled = _settled(text, at_start=not pieces or pieces[-1][-1:] == "\n")
            if settled is None:
                self._literal.append(len(pieces))
            else:
                text = settled
        pieces.append(text)

    def markup(self, text: str) -> None:
        """Something that is Markdown already."""
        if text:
            self.pieces.append(text)

    def code(self, text: str) -> None:
        """Inline code; in a table's cell its `|` are escaped with those of the text."""
        place = len(self.pieces)
        before, code = self._code
        touching = before == place - 1 >= 0 and len(code) < _LONGEST_CODE
        if touching and self.pieces[before] == marks.code_span(code):
            # Two spans that touch would not read back as two.
            text = code + text
            self.pieces.pop()
            place -= 1
        self.markup(marks.code_span(text))
        self._code = (place, text)

    def maths(self, text: str) -> None:
        """TeX between its dollars."""
        self._formulas.append(len(self.pieces))
        self.markup(text)

    def image(self, description: str, source: str, title: str) -> None:
        """An image; its description is plain text."""
        text = marks.description(" ".join(description.split()))
        self.markup(f"![{text}]({marks.link_target(source, title)})")

    def box(self, *, checked: bool) -> None:
        """The box of a task."""
        self.markup(_BOXES[checked])

    def line_break(self) -> None:
        """`<br>`."""
        if self.pieces:
            self._trim_end()
            self.pieces.append(HARD_BREAK)

    def at_break(self) -> bool:
        """Whether a break was the last thing, outside emphasis and links."""
        return bool(self.pieces) and self.pieces[-1] == HARD_BREAK and not self._open

    def _trim_end(self) -> None:
        pieces = self.pieces
        if pieces[-1][-1:] in SPACE:
            if kept := pieces[-1].rstrip(SPACE):
                pieces[-1] = kept
            else:
                pieces.pop()

    # --- emphasis and links ---

    def emphasised(self, kind: Emphasis, source: str) -> None:
        """A whole `<strong>` or its like that holds only text."""
        pieces, stars = self.pieces, DELIMITERS[kind]
        before = pieces[-1][-1:] if pieces else ""
        if (
            before == stars[0]
            or not (source[:1].isalnum() and source[-1].isalnum())
            or self._depth.get(kind)
            or _NOTABLE.search(source)
        ):
            self.open_emphasis(kind)
            if source:
                self.text(source)
            self.close_emphasis(kind)
            return
        # Between a letter and anything at all its delimiters are what they should be.
        self._whole = (len(pieces), kind, source)
        self._wholes.append((len(pieces), len(stars)))
        pieces.append(f"{stars}{source}{stars}")

    def _take_apart(self) -> None:
        """Turn the whole emphasis that was written last to pieces: more delimiters follow it."""
        place, kind, source = self._whole
        self._whole = _NO_WHOLE
        if place == len(self.pieces) - 1:
            self.pieces.pop()
            self._wholes.pop()
            self._begin(Mark(kind, place))
            self.pieces.append(source)
            self._close_to(kind)

    def open_emphasis(self, kind: Emphasis) -> None:
        """`<strong>` and its like; the same again inside itself changes nothing."""
        if self._whole is not _NO_WHOLE:
            self._take_apart()
        self._depth[kind] = self._depth.get(kind, 0) + 1
        if self._depth[kind] > 1:
            return
        last = self._closed[-1] if self._closed else None
        if last and last.kind == kind and last.end == len(self.pieces) - 1:
            # `**a****b**` would not read back: what ends and at once begins again goes on.
            self._closed.pop()
            self.pieces.pop()
            last.end = -1
            self._open.append(last)
            return
        self._begin(Mark(kind, len(self.pieces)))

    def close_emphasis(self, kind: Emphasis) -> None:
        """The end tag; without its start it means nothing."""
        depth = self._depth.get(kind, 0)
        if depth == 1:
            self._close_to(kind)
        elif depth:
            self._depth[kind] = depth - 1

    def open_link(self, target: str | None, title: str) -> None:
        """`<a>`; without a target it is only text."""
        if self._depth.get("link"):
            self._close_to("link")
        if not target:
            return
        if self.pieces and self.pieces[-1][-1:] == "!":
            self._exclaims = True
        self._depth["link"] = 1
        self._begin(Mark("link", len(self.pieces), target=target, title=title))

    def whole_link(self, element: str) -> bool:
        """A whole `<a>` that holds only plain text; False where the long way must be gone."""
        match = _LINK.fullmatch(element)
        if match is None or self._depth.get("link"):
            return False
        target, text = decode(match[1]), decode(match[2])
        title = attribute(element[: match.start(2)], "title") if " title" in element else ""
        if not title and _is_autolink(target, text):
            self.pieces.append(f"<{text}>")
            return True
        if not target or not text or text != text.strip(" ") or _NOT_IN_LINK.search(text):
            return False
        if self.pieces and self.pieces[-1].endswith("!"):
            return False
        self._links.append((len(self.pieces), len(text)))
        self.pieces.append(f"[{text}]({marks.link_target(target, title)})")
        return True

    def close_link(self) -> None:
        """`</a>`."""
        if self._depth.get("link"):
            self._close_to("link")

    def _begin(self, mark: Mark) -> None:
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
        while first <= last and not (rest := pieces[first].lstrip(SPACE)):
            lead, pieces[first], first = lead + pieces[first], "", first + 1
        if first > last:
            pieces[mark.start] = lead
            return
        lead, pieces[first] = lead + pieces[first][: len(pieces[first]) - len(rest)], rest
        while not (rest := pieces[last].rstrip(SPACE)):
            trail, pieces[last], last = pieces[last] + trail, "", last - 1
        trail, pieces[last] = pieces[last][len(rest) :] + trail, rest
        if lead and mark.start and pieces[mark.start - 1][-1:] in _SPACES:
            lead = ""  # two line ends would end the paragraph
        alone = mark.kind == "link" and first == last and not mark.title
        if alone and _is_autolink(mark.target, rest):
            pieces[mark.start], pieces[first] = lead, f"<{rest}>"
            for places in (self._literal, self._bracketed, self._dollars):
                if places and places[-1] == first:
                    places.pop()
            self.markup(trail)
            return
        pieces[mark.start] = lead + pieces[mark.start]
        mark.end = len(pieces)
        pieces.append(self._closing(mark))
        self._closed.append(mark)
        self.markup(trail)

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
        text = literals.with_backslashes(text, places)
        if "\n" in text:
            text = text.replace(HARD_BREAK, "<br>").replace("\n", " ")
        return text.replace("|", "\\|")

    def _joined(self, *, in_flow: bool = False) -> tuple[str, Set[int]]:
        pieces = self.pieces
        marked = self._open or self._closed
        if marked:
            self._close_to("")
            if self._closed:
                emphasis.settle(pieces, self._closed)
                first = emphasis.neighbour(pieces, -1, 1)
                pieces[first] = pieces[first].lstrip(SPACE)
            pieces[-1] = pieces[-1].rstrip(SPACE)
        text = pieces[0] if len(pieces) == 1 else "".join(pieces)
        places: Set[int] = frozenset()
        if (
            self._literal
            or self._exclaims
            or (self._dollars and self._formulas)
            or (self._bracketed and "](" in text)
        ):
            places = self._places(text, in_flow=in_flow)
        self._forget()
        if not marked:
            lead = len(text) - len(text.lstrip(SPACE))
            if lead:
                text, places = text[lead:], {place - lead for place in places if place >= lead}
        end = text.rstrip(SPACE)
        if places and len(end) < len(text):
            places = {place for place in places if place < len(end)}
        return end, places

    def _forget(self) -> None:
        self.pieces = []
        if self._literal or self._bracketed or self._dollars:
            self._literal, self._bracketed, self._dollars = [], [], []
        if self._closed or self._wholes:
            self._closed, self._wholes, self._depth = [], [], {}
        if self._links or self._formulas:
            self._links, self._formulas = [], []
        self._depth.clear()
        self._whole, self._exclaims = _NO_WHOLE, False

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


def _is_autolink(target: str, text: str) -> bool:
    """Whether `<text>` reads as this link."""
    return (text == target or f"mailto:{text}" == target) and _AUTOLINK.fullmatch(text) is not None
