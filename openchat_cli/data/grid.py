"""The cells of one HTML table as rows of Markdown."""

from __future__ import annotations

import re
from functools import lru_cache

from openchat_cli.data.dom import attribute

# A cell that covers others leaves them empty; more than so many is no table that anybody wrote.
_MOST_COVERED = 40
_LONG_TAG = 200  # characters; such a one is no other cell's too


class Grid:
    """Rows of finished cells, filled from left to right."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.alignment: list[str] = []
        self._columns = self._lines = 1  # that the running cell takes
        self._covered: dict[int, int] = {}  # column -> how many rows more a cell above takes it

    def open_row(self) -> None:
        """The next row."""
        self.rows.append([])
        self._fill()

    def open_cell(self, tag: str) -> None:
        """The next cell, by its start tag."""
        if not self.rows:
            self.open_row()
        self._columns = self._lines = 1
        if "span" in tag:
            columns, lines = _number(tag, "colspan"), _number(tag, "rowspan")
            if columns * lines <= _MOST_COVERED:
                self._columns, self._lines = columns, lines
        if len(self.rows) == 1:
            self.alignment += [_alignment(tag)] * self._columns

    def end_cell(self, text: str) -> None:
        """The running cell's text."""
        row = self.rows[-1]
        if self._columns == self._lines == 1 and not self._covered:
            row.append(text)
            return
        if self._lines > 1:
            for column in range(len(row), len(row) + self._columns):
                self._covered[column] = self._lines - 1
        row += [text] + [""] * (self._columns - 1)
        self._fill()

    def plain_cell(self, text: str) -> bool:
        """A whole cell without attributes; False where there is no row for it yet."""
        if not self.rows:
            return False
        if len(self.rows) == 1:
            self.alignment.append("---")
        self.rows[-1].append(text)
        if self._covered:
            self._fill()
        return True

    def _fill(self) -> None:
        row = self.rows[-1]
        while left := self._covered.pop(len(row), 0):
            if left > 1:
                self._covered[len(row)] = left - 1
            row.append("")


def _number(tag: str, name: str) -> int:
    digits = attribute(tag, name)
    return max(1, int(digits)) if re.fullmatch(r"[0-9]{1,4}", digits) else 1


def _alignment(tag: str) -> str:
    if "=" not in tag:
        return "---"
    return _alignment_cached(tag) if len(tag) < _LONG_TAG else _alignment_of(tag)


def _alignment_of(tag: str) -> str:
    wanted = attribute(tag, "align") or attribute(tag, "style").replace(" ", "")
    for side, rule in (("center", ":-:"), ("right", "--:"), ("left", ":--")):
        if wanted == side or f"text-align:{side}" in wanted:
            return rule
    return "---"


_alignment_cached = lru_cache(maxsize=256)(_alignment_of)
