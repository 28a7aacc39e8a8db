"""Markdown blocks inside quotes and lists: every line is written once, with its whole prefix.

What stands between two blocks of a list (a line end or an empty line) is known only when the list
ends, so those gaps are remembered and filled in then. Nothing is ever indented twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from openchat_cli.data import marks

_LARGEST_NUMBER = 999_999_999  # CommonMark allows nine digits


class _Frame:
    """One container; `last` is the kind of the block written last into it ("" for none yet)."""

    last = ""
    bullet = ""  # list: one of - * . )
    number = 0
    width = 2  # list: of the last item's marker
    implied = False  # item: its tag was left out
    loose = False
    gaps: list[tuple[int, str]]  # list: where, and the loose form

    def __init__(
        self, kind: Literal["root", "quote", "list", "item"], prefix: str, marker_at: int = -1
    ) -> None:
        self.kind = kind
        self.prefix = prefix
        self.marker_at = marker_at  # item, quote: where its marker stands in the output


class Blocks:
    """Collects the Markdown of one document."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._frames = [_Frame("root", "")]

    # --- leaves ---

    def paragraph(self, text: str, kind: str = "paragraph") -> None:
        """Inline Markdown of one or more lines."""
        frame = self._frames[-1]
        if frame.kind == "list":
            frame = self._holder()
        if frame.last:
            self._separate(frame, kind)
        frame.last = kind
        self._out.append(_indented(text, frame.prefix) if frame.prefix and "\n" in text else text)

    def heading(self, level: int, text: str) -> None:
        """An ATX heading."""
        self.paragraph(f"{'#' * level} {text}".rstrip(), "heading")

    def code(self, text: str, language: str) -> None:
        """A fenced block; `text` with its last line end."""
        fence = marks.fence_for(text)
        self.paragraph(f"{fence}{language}\n{text}{fence}", "code")

    def math(self, tex: str) -> None:
        """Display TeX."""
        self.paragraph(f"$$\n{tex}\n$$")

    def table(self, rows: list[list[str]], alignment: list[str]) -> None:
        """A table; the first row is its head, and later rows may be shorter."""
        width = max(map(len, rows))
        head = rows[0] + [""] * (width - len(rows[0]))
        rules = (alignment + ["---"] * width)[:width]
        self.paragraph(
            "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows[1:])), "table"
        )

    def rule(self) -> None:
        """A thematic break, in a form that neither a list nor a paragraph before it takes over."""
        in_list = any(frame.kind == "item" for frame in self._frames)
        self.paragraph("___" if in_list else "---", "rule")

    # --- containers ---

    def open_quote(self) -> None:
        """`>`."""
        frame = self._begin("quote")
        self._open(_Frame("quote", frame.prefix + "> ", len(self._out)), "> ")

    def open_list(self, start: int | None) -> None:
        """A list, numbered from `start` or with bullets; its first item writes the first of it."""
        parent = self._frames[-1]
        if parent.kind == "list":
            parent = self._holder()
        first, second = ("-", "*") if start is None else (".", ")")
        # Two lists in a row would be read as one if their markers were the same.
        bullet = second if parent.last == f"list{first}" else first
        items = _Frame("list", parent.prefix)
        items.gaps, items.bullet = [], bullet
        if start:
            items.number = min(max(start, 0), _LARGEST_NUMBER)
        self._frames.append(items)

    def open_item(self) -> None:
        """The next item; one outside any list begins a list of its own."""
        frames, out = self._frames, self._out
        items = frames[-1]
        if items.kind != "list":
            if items.implied:
                self.close("item")
            if frames[-1].kind != "list":
                self.open_list(None)
            items = frames[-1]
        marker = self._marker(items)
        frames.append(_Frame("item", items.prefix + " " * len(marker), len(out)))
        out.append(marker)

    def item(self, text: str) -> None:
        """A whole item of one line, inside a list."""
        if self._frames[-1].implied:
            self.close("item")
        marker = self._marker(self._frames[-1])
        self._out.append(marker + text)

    def _marker(self, items: _Frame) -> str:
        if items.last:
            prefix = items.prefix
            items.gaps.append((len(self._out), _empty_line(prefix)))
            self._out.append("\n" + prefix)
        else:
            # A list that starts with 2 can't interrupt a paragraph.
            apart = items.bullet in ".)" and items.number != 1
            parent, kind = self._frames[-2], f"list{items.bullet}"
            if parent.last:
                self._separate(parent, kind, apart=apart)
            parent.last = kind
            items.last = "item"
        if items.bullet in "-*":
            return items.bullet + " "
        marker = f"{items.number}{items.bullet} "
        items.number = min(items.number + 1, _LARGEST_NUMBER)
        items.width = len(marker)
        return marker

    def loosen(self) -> None:
        """The running item holds a paragraph of its own: its list is a loose one."""
        if self._frames[-1].kind == "item":
            self._frames[-2].loose = True

    def close(self, kind: str) -> None:
        """End the innermost container of that kind and whatever is still open in it."""
        frames = self._frames
        while len(frames) > 1:
            frame = frames.pop()
            if frame.kind == "list":
                if frame.loose:
                    self._fill_gaps(frame)
            elif not frame.last:
                self._out[frame.marker_at] = self._out[frame.marker_at].rstrip()
            if frame.kind == kind:
                return

    def finish(self) -> str:
        """End everything and give the document."""
        while len(self._frames) > 1:
            self.close(self._frames[-1].kind)
        return "".join(self._out)

    # --- what stands between ---

    def _open(self, frame: _Frame, marker: str) -> None:
        self._out.append(marker)
        self._frames.append(frame)

    def _holder(self) -> _Frame:
        """The container that takes the next block: directly in a list, that is an item."""
        items = self._frames[-1]
        if items.kind == "list":
            if items.last:
                # What stands between the items belongs to the one before.
                prefix = items.prefix + " " * items.width
                self._frames.append(_Frame("item", prefix))
                self._frames[-1].last = "paragraph"
            else:
                self.open_item()
            self._frames[-1].implied = True
        return self._frames[-1]

    def _begin(self, kind: str) -> _Frame:
        frame = self._holder()
        if frame.last:
            self._separate(frame, kind)
        frame.last = kind
        return frame

    def _separate(self, frame: _Frame, kind: str, *, apart: bool = False) -> None:
        """What stands between the last block of a container and the next one."""
        if frame.kind == "item" and not (
            _needs_empty_line(frame.last, kind) or (apart and frame.last == "paragraph")
        ):
            self._gap(self._frames[self._frames.index(frame) - 1], frame)
        else:
            self._out.append(_empty_line(frame.prefix))

    def _gap(self, items: _Frame, frame: _Frame) -> None:
        items.gaps.append((len(self._out), _empty_line(frame.prefix)))
        self._out.append("\n" + frame.prefix)

    def _fill_gaps(self, items: _Frame) -> None:
        for place, empty_line in items.gaps:
            self._out[place] = empty_line


def _needs_empty_line(last: str, kind: str) -> bool:
    """Whether the second block would be taken for a part of the first one, even in a tight list."""
    if kind == "paragraph":
        return last not in ("heading", "code", "rule")
    if kind == "table":
        return last not in ("paragraph", "heading", "code", "rule")
    return last == kind == "quote"


@lru_cache(maxsize=1024)
def _empty_line(prefix: str) -> str:
    return f"\n{prefix.rstrip()}\n{prefix}"


def _indented(text: str, prefix: str) -> str:
    if "\n\n" not in text and text[-1] != "\n":
        return text.replace("\n", f"\n{prefix}")
    bare = prefix.rstrip()
    first, *rest = text.split("\n")
    return "\n".join([first, *[prefix + line if line else bare for line in rest]])
