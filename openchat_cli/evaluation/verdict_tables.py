"""Scores in a Markdown table of a judge's review, for verdict.py."""

from __future__ import annotations

import re
from collections.abc import Iterator

from openchat_cli.evaluation import verdict_words as words

Pair = tuple[float, float]


def table_pairs(lines: list[str]) -> Iterator[Pair]:
    """Scores in a Markdown table: one row for each assistant, or one column."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.count("|") >= 2 or re.fullmatch(r"[^|]+\|[^|]+", line)
    ]
    rows = [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    if len(rows) >= 2:
        yield from _by_rows(rows)
        yield from _by_columns(rows)


def _by_rows(rows: list[list[str]]) -> Iterator[Pair]:
    """| Assistant 1 | 8 |"""
    column = _summing(rows[0], default=-1)
    cells = (words.FIRST_CELL, words.SECOND_CELL)
    found = [_grade_in(_row_of(rows, who), column) for who in cells]
    if found[0] is not None and found[1] is not None:
        yield found[0], found[1]


def _by_columns(rows: list[list[str]]) -> Iterator[Pair]:
    """| Overall | 8 | 9 | under | Criterion | Assistant 1 | Assistant 2 |"""
    columns = [
        next((at for at, cell in enumerate(rows[0]) if who.fullmatch(cell)), None)
        for who in (words.FIRST_CELL, words.SECOND_CELL)
    ]
    if columns[0] is None or columns[1] is None:
        return
    row = rows[_summing([row[0] for row in rows], default=1 if len(rows) == 2 else 0)]
    first, second = _grade_in(row, columns[0]), _grade_in(row, columns[1])
    if first is not None and second is not None:
        yield first, second


def _summing(cells: list[str], default: int) -> int:
    """Where the cell stands that names the overall score."""
    for pattern in (words.OVERALL, words.SCORE):
        found = [at for at, cell in enumerate(cells) if pattern.search(cell)]
        if found:
            return found[-1]
    return default if len(cells) == 2 or default >= 0 else 0


def _row_of(rows: list[list[str]], who: re.Pattern[str]) -> list[str]:
    return next((row for row in rows[1:] if who.fullmatch(row[0])), [])


def _grade_in(row: list[str], column: int) -> float | None:
    if not -len(row) <= column < len(row):
        return None
    found = words.GRADE.fullmatch(row[column])
    return words.to_float(found["grade"]) if found else None
