"""The text of one block, collected piece by piece and escaped as a whole at the end.

Escaping waits for the end because whether a character means something depends on its neighbours: a
lone `*` is only a star unless another one follows.
"""

from __future__ import annotations

import re

from openchat_cli.data import literals, marks
from openchat_cli.data.dom import SPACE, attribute, decode
from openchat_cli.data.emphasis import DELIMITERS, Emphasis, Mark
from openchat_cli.data.pieces import HARD_BREAK, NO_WHOLE, SPACES, Pieces, is_autolink

_BOXES = ("[ ] ", "[x] ")

# What needs a closer look: line ends, references, and all that may mean something in Markdown.
NOTABLE = re.compile(r"[\\&<`*_~\[\]$\n\t\r\f]")
# What may mean something where it stands; at the edges of a piece the next one decides.
# (Each branch begins with a character: so the search skips to the next of those.)
_RISKY = re.compile(
    r"`|~|\\(?![A-Za-z0-9 ])|&(?![\s=])|<(?![\s=0-9])|\*(?<!\s\*)|\*(?!\s)"
    r"|_(?<![A-Za-z0-9]_)|_(?![A-Za-z0-9])"
)
# What is risky by its neighbours alone can be settled at once; this can't.
_CONTEXT = re.compile(r"[`*_~]|\\\Z|<[!?]|<[^>]*+\Z|&[#\w]*+\Z")
_LOCAL = re.compile(r"[\\&<]")
_LINK = re.compile(r"<a [^<>]*?href=\"([^\"]*)\"[^<>]*>([^<]*)</a>")
_LONGEST_CODE = 1000  # that is joined with one that touches it


def plain_line(source: str) -> str:
    """HTML's text as one line of Markdown if it needs no care at all, else ""."""
    if NOTABLE.search(source):
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


class Inline(Pieces):
    """Pieces of text and markup in reading order."""

    def text(self, source: str) -> None:
        """Text as it stands in HTML, not empty."""
        pieces = self.pieces
        if NOTABLE.search(source):
            self._careful(source)
        elif source[0] != " " or (pieces and pieces[-1][-1:] not in SPACES):
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
        if not pieces or pieces[-1][-1:] in SPACES:
            text = text.lstrip(SPACE)
        if not text:
            return
        if "[" in text or "]" in text:
            self._bracketed.append(len(pieces))
            self._plain = False
        if "$" in text:
            self._dollars.append(len(pieces))
            self._plain = False
        if _RISKY.search(text):
            settled = None
            if not _CONTEXT.search(text):
                settled = _settled(text, at_start=not pieces or pieces[-1][-1:] == "\n")
            if settled is None:
                self._literal.append(len(pieces))
                self._plain = False
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
        self._plain = False
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
            or NOTABLE.search(source)
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
        self._whole = NO_WHOLE
        if place == len(self.pieces) - 1:
            self.pieces.pop()
            self._wholes.pop()
            self._begin(Mark(kind, place))
            self.pieces.append(source)
            self._close_to(kind)

    def open_emphasis(self, kind: Emphasis) -> None:
        """`<strong>` and its like; the same again inside itself changes nothing."""
        if self._whole is not NO_WHOLE:
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
            self._plain = False
        self._depth["link"] = 1
        self._begin(Mark("link", len(self.pieces), target=target, title=title))

    def whole_link(self, element: str) -> bool:
        """A whole `<a>` that holds only plain text; False where the long way must be gone."""
        match = _LINK.fullmatch(element)
        if match is None or self._depth.get("link"):
            return False
        target, text = match.groups()
        if "&" in element:
            target, text = decode(target), decode(text)
        title = attribute(element[: match.start(2)], "title") if " title" in element else ""
        if not title and target.endswith(text) and is_autolink(target, text):
            self.pieces.append(f"<{text}>")
            return True
        if not target or not text or text[0] == " " or text[-1] == " " or NOTABLE.search(text):
            return False
        pieces = self.pieces
        if pieces and pieces[-1].endswith("!"):
            return False
        self._links.append((len(pieces), len(text)))
        pieces.append(f"[{text}]({marks.link_target(target, title)})")
        return True

    def close_link(self) -> None:
        """`</a>`."""
        if self._depth.get("link"):
            self._close_to("link")
