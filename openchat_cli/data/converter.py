"""What each tag of ChatGPT's HTML does to the Markdown that is being written.

One pass over the tags, found by one regular expression; no recursion and no tree. Texts go to
`Inline`, blocks to `Blocks`. The tables in html.py say which method a tag calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from openchat_cli.data import ends
from openchat_cli.data.blocks import Blocks
from openchat_cli.data.dom import SPACE, STRIDE, attribute, decode, link_text, name_of, pieces
from openchat_cli.data.emphasis import EMPHASIS
from openchat_cli.data.grid import Grid
from openchat_cli.data.inline import NOTABLE, Inline, one_paragraph, plain_line
from openchat_cli.data.preformatted import code_block
from openchat_cli.data.variants import usual

# Containers deeper than this add no indentation: nobody reads them, and their output would be as
# large as their depth squared.
_DEEPEST = 64
_TO_NEXT = STRIDE - 1  # from a tag to the text that follows it

Handler = Callable[["Converter", str], None]
Handlers = Mapping[str, Handler | None]  # None: the tag means nothing


class Converter:
    """One run over one message; `flow` says what each tag does, `cell` the same inside a cell."""

    def __init__(self, html: str, flow: Handlers, cell: Handlers) -> None:
        self.flow, self.cell = flow, cell
        self.parts = pieces(usual(html))
        self.at = 0  # the text that comes next
        self.inline = Inline()
        self.pending = self.inline.pieces  # of the running block
        self.blocks = Blocks()
        self.handlers = flow
        self._open: list[str] = []  # containers; `blocks` knows of the first _DEEPEST
        self._counts = {"quote": 0, "list": 0, "item": 0}
        self._absent: set[str] = set()  # tags that don't come any more
        self._grid: Grid | None = None  # of the running table
        self._texts: list[str] = []
        self._inner_tables = 0

    def run(self) -> str:
        parts, inline, pending = self.parts, self.inline, self.pending
        last = len(parts) - 1
        while (at := self.at) < last:
            text, tag, name, inner = parts[at : at + STRIDE]
            self.at = at + STRIDE
            if text:
                # What most texts are, without a call; `Inline.text` says the same.
                if text[0] == " " or NOTABLE.search(text):
                    inline.text(text)
                else:
                    pending.append(text)
            if name is not None:
                _WHOLES[name](self, name, inner or "")
            elif handler := self.handlers[tag or ""]:
                handler(self, tag or "")
        if self.at == last and (text := parts[last]):
            inline.text(text)
        if self._grid is not None:
            self.end_table("")
        self.boundary("")
        return self.blocks.finish()

    # --- elements that hold only text: what is usual goes a short way ---

    def whole(self, name: str, text: str) -> None:
        """Any such element."""
        if start := self.handlers[f"<{name}>"]:
            start(self, f"<{name}>")
        if text:
            self.inline.text(text)
        if end := self.handlers[f"</{name}>"]:
            end(self, f"</{name}>")

    def whole_paragraph(self, name: str, text: str) -> None:
        if self.pending or self.handlers is not self.flow or not (line := plain_line(text)):
            self.whole(name, text)
        else:
            self.blocks.paragraph(line)
            self.blocks.loosen()

    def whole_item(self, name: str, text: str) -> None:
        if (
            self.pending
            or not self._open
            or self._open[-1] != "list"
            or len(self._open) > _DEEPEST
            or self.handlers is not self.flow
            or not (line := plain_line(text))
        ):
            self.whole(name, text)
        else:
            self.blocks.item(line)

    def whole_cell(self, name: str, text: str) -> None:
        if (
            self.pending
            or not self._grid
            or self.handlers is not self.flow
            or not (line := plain_line(text))
            or not self._grid.plain_cell(line.replace("|", "\\|") if "|" in line else line)
        ):
            self.whole(name, text)

    def whole_code(self, name: str, text: str) -> None:
        self.inline.code(decode(text))

    def whole_emphasis(self, name: str, text: str) -> None:
        self.inline.emphasised(EMPHASIS[name], text)

    def find(self, tag: str) -> int | None:
        """Where that very tag comes next."""
        if tag in self._absent:
            return None
        try:
            return self.parts.index(tag, self.at)
        except ValueError:
            self._absent.add(tag)
            return None

    def _text_until(self, end: int) -> str:
        """The texts up to a tag's place, tags left out."""
        places = range(self.at, end, STRIDE)
        inner = [self.parts[k + 3] or link_text(self.parts[k + 1] or "") or "" for k in places]
        return "".join(
            [(self.parts[k] or "") + text for k, text in zip(places, inner, strict=True)]
        )

    # --- blocks ---

    def boundary(self, tag: str) -> None:
        """A tag that ends the running paragraph."""
        if self.pending and (text := self.inline.take()):
            self.blocks.paragraph(text)

    def end_paragraph(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        self.blocks.loosen()

    def end_heading(self, tag: str) -> None:
        self.blocks.heading(int(tag[3]), self.inline.take_line())

    def rule(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        self.blocks.rule()

    def preformatted(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        self.blocks.code(*code_block(tag))

    # --- containers ---

    def open_quote(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        if self._enter("quote"):
            self.blocks.open_quote()

    def end_quote(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        self._leave("quote")

    def open_list(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        if self._enter("list"):
            start = None
            if tag == "<ol>":
                start = 1
            elif tag[1] in "oO":
                digits = attribute(tag, "start").strip()
                start = int(digits) if re.fullmatch(r"-?[0-9]{1,12}", digits) else 1
            self.blocks.open_list(start)

    def end_list(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        self._leave("list")

    def open_item(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        if self._open and self._open[-1] == "item":
            self._leave("item")  # its own end tag was left out
        if self._enter("item"):
            self.blocks.open_item()

    def end_item(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        self._leave("item")

    def _enter(self, kind: str) -> bool:
        self._open.append(kind)
        self._counts[kind] += 1
        return len(self._open) <= _DEEPEST

    def _leave(self, kind: str) -> None:
        while self._counts[kind]:
            inner = self._open.pop()
            self._counts[inner] -= 1
            if len(self._open) < _DEEPEST:
                self.blocks.close(inner)
            if inner == kind:
                return

    # --- inline ---

    def code(self, tag: str) -> None:
        end = self.find("</code>")
        if end is None:
            return
        text = self._text_until(end)
        self.at = end + _TO_NEXT
        self.inline.code(decode(text))

    def emphasis(self, tag: str) -> None:
        self.inline.open_emphasis(EMPHASIS[name_of(tag)])

    def end_emphasis(self, tag: str) -> None:
        self.inline.close_emphasis(EMPHASIS[name_of(tag)])

    def link(self, tag: str) -> None:
        """A link's start tag, or the whole of one that holds only text."""
        if self.handlers is self.flow and self.inline.whole_link(tag):
            return
        text = link_text(tag)
        if text is not None:
            tag = tag[: -len(text) - len("</a>")]
        self.inline.open_link(attribute(tag, "href"), attribute(tag, "title"))
        if text:
            self.inline.text(text)
        if text is not None:
            self.inline.close_link()

    def end_link(self, tag: str) -> None:
        self.inline.close_link()

    def image(self, tag: str) -> None:
        source = attribute(tag, "src")
        if source and not source.startswith("data:"):
            self.inline.image(attribute(tag, "alt"), source, attribute(tag, "title"))

    def line_break(self, tag: str) -> None:
        if self.handlers is self.flow and self.inline.at_break():
            self.boundary(tag)  # two breaks in a row show an empty line
        else:
            self.inline.line_break()

    def as_html(self, tag: str) -> None:
        """Markdown has no form of its own for raised and lowered text."""
        self.inline.markup(f"<{'/' if tag[1] == '/' else ''}{name_of(tag)}>")

    def field(self, tag: str) -> None:
        """A task list's box."""
        if attribute(tag, "type") == "checkbox":
            self.inline.box(checked="checked" in tag.replace("checkbox", ""))

    def skip(self, tag: str) -> None:
        """Buttons and drawings: nothing of them is the message's text."""
        end = self.find(f"</{name_of(tag)}>")
        if end is not None:
            self.at = end + _TO_NEXT

    def hidden(self, tag: str) -> None:
        """What the page doesn't show."""
        name = name_of(tag)
        if f"hidden {name}" in self._absent or link_text(tag) is not None:
            return
        place = ends.end_of(self.parts, self.at, name)
        if place is None:
            self._absent.add(f"hidden {name}")  # not ended, and nor is any that follows
        else:
            self.at = place + _TO_NEXT

    def math(self, tag: str) -> None:
        """KaTeX: the source stands in its annotation."""
        if "annotation" in self._absent:
            return
        found = ends.formula(self.parts, self.at, name_of(tag))
        if found is ends.ENDLESS:
            self._absent.add("annotation")  # not ended, and nor is any that follows
        if not found:
            return
        begin, end = found
        places = range(begin + STRIDE, end, STRIDE)
        stop = next((k for k in places if self.parts[k] == "</annotation>"), end)
        self.at = begin + _TO_NEXT
        tex = decode(self._text_until(stop)).strip(SPACE)
        self.at = end + _TO_NEXT
        display = "display" in tag or "block" in tag
        if not tex:
            return
        if display and self.handlers is self.flow:
            self.boundary(tag)
            self.blocks.math(tex)
        else:
            mark = "$$" if display else "$"
            self.inline.maths(f"{mark}{one_paragraph(tex)}{mark}")

    # --- tables ---

    def open_table(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        if self._grid is None:
            self._grid = Grid()

    def open_row(self, tag: str) -> None:
        if self.pending:
            self.boundary(tag)
        if self._grid is not None:
            self._grid.open_row()

    def open_cell(self, tag: str) -> None:
        if self._grid is None:
            self.boundary(tag)
            return
        if self.handlers is self.cell:
            self.end_cell(tag)
        self.boundary(tag)  # text between the cells comes before the table
        self._grid.open_cell(tag)
        self.handlers, self._texts = self.cell, []

    def cell_boundary(self, tag: str) -> None:
        """Inside a cell a block's edge can only be a line break."""
        if self.pending and (text := self.inline.take_cell()):
            self._texts.append(text)

    def cell_code(self, tag: str) -> None:
        self.cell_boundary(tag)
        for line in code_block(tag)[0].removesuffix("\n").split("\n"):
            self.inline.code(line)
            self.cell_boundary(tag)

    def inner_table(self, tag: str) -> None:
        self._inner_tables += 1

    def next_cell(self, tag: str) -> None:
        """The next cell, whose predecessor's end tag was left out."""
        if self._inner_tables:
            self.cell_boundary(tag)
        else:
            self.open_cell(tag)

    def next_row(self, tag: str) -> None:
        if self._inner_tables:
            self.cell_boundary(tag)
        else:
            self.end_cell(tag)
            self.open_row(tag)

    def end_cell(self, tag: str) -> None:
        self.cell_boundary(tag)
        if not self._inner_tables and self._grid:
            self._grid.end_cell("<br>".join(self._texts))
            self.handlers = self.flow

    def end_table(self, tag: str) -> None:
        if self.handlers is self.cell:
            if self._inner_tables and tag:
                self.cell_boundary(tag)
                self._inner_tables -= 1
                return
            self._inner_tables = 0
            self.end_cell(tag)
        if self.pending:
            self.boundary(tag)
        grid, self._grid = self._grid, None
        rows = [row for row in grid.rows if row] if grid else []
        if grid and rows:
            self.blocks.table(rows, grid.alignment)


_WHOLES: dict[str, Callable[[Converter, str, str], None]] = {
    "p": Converter.whole_paragraph,
    "li": Converter.whole_item,
    "td": Converter.whole_cell,
    "code": Converter.whole_code,
    **dict.fromkeys(("strong", "em", "del", "s"), Converter.whole_emphasis),
    **dict.fromkeys(("th", "h1", "h2", "h3", "h4", "h5", "h6"), Converter.whole),
}
