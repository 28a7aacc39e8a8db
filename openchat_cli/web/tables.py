"""Tables: captioned, with headings that screen readers find, scrolling where they are too wide."""

from __future__ import annotations

from collections.abc import Sequence

from openchat_cli.web.html import Html, tag


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table of cells; plain texts that begin with a digit or a sign are set as numbers.

    Cells that need more are made by `number` and `two_lines`.
    """
    body = [[_cell(cell) for cell in row] for row in rows]
    numbers = [cell.is_number for cell in body[0]] if body else [False] * len(heads)
    head = [
        tag("th", name, scope="col", class_="n" if number else None)
        for name, number in zip(heads, numbers, strict=True)
    ]
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *head)),
        tag("tbody", *(tag("tr", *cells) for cells in body)),
    )
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


class Cell(Html):
    """A table cell that is set already."""

    is_number: bool


def _cell(value: str) -> Cell:
    if isinstance(value, Cell):
        return value
    looks_it = value[:1].isdigit() or value[:1] in ("+", "-", "–")
    return number(value) if looks_it else two_lines(value)


def number(text: str, below: str = "", *, strong: bool = False) -> Cell:
    """A cell set to the right, on one line, with a small line below it."""
    return _set(tag("b", text) if strong else text, below, is_number=True)


def two_lines(text: str, below: str = "") -> Cell:
    """A cell of text with a small line below it."""
    return _set(text, below, is_number=False)


def _set(text: str, below: str, *, is_number: bool) -> Cell:
    small = tag("div", below, class_="muted small") if below else ""
    cell = Cell(tag("td", text, small, class_="n" if is_number else None))
    cell.is_number = is_number
    return cell
