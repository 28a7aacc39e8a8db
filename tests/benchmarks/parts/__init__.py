"""The parts of `python tests/benchmarks/data.py`; each has `run() -> None`, which prints rows."""

from __future__ import annotations

from collections.abc import Sequence


def table(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print measured things: what, the figure, and the bar that it must reach ("" for none)."""
    print(f"\n{title}")
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for what, figure, bar in rows:
        print(f"  {what:{widths[0]}}  {figure:>{widths[1]}}  {bar}".rstrip())
