"""Charts as SVG, drawn here and not in the browser: they need no library, print, and can be read.

Every chart has a title and a description for those who can't see it, prints its numbers beside its
marks, and tells its kinds apart by more than colour. Colours come from the classes in base.css.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openchat_cli.web.html import Html, join, tag

WIDTH = 960  # user units; the page scales the whole picture
_ROW = 46
_BAR = 18
_RIGHT = 170  # room for the number at the end of a bar


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval, where it has one; `note` stands after the number."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """How often each kind was seen, in the order of the chart's kinds."""

    label: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of a stacked chart: its word in the legend, its class, and whether it is hatched."""

    word: str
    style: str
    hatched: bool = False


OUTCOMES = (Kind("win", "win"), Kind("tie", "tie"), Kind("loss", "loss", hatched=True))


def interval_bars(
    bars: Sequence[Bar],
    *,
    title: str,
    description: str,
    unit: str = "",
    reference: tuple[float, str] | None = None,
) -> Html:
    """Horizontal bars from 0 with whiskers for the intervals and a dashed line at `reference`."""
    ends = [bar.value if bar.high is None else bar.high for bar in bars]
    top = _nice(max([*ends, reference[0] if reference else 0.0, 1e-9]))
    scale = (WIDTH - _RIGHT) / top
    height = _ROW * len(bars) + 24
    parts = [_line("axis", 0.5, 0, 0.5, height - 22)]
    parts += [_interval_bar(bar, _ROW * row, scale, unit) for row, bar in enumerate(bars)]
    if reference:
        at, word = reference
        parts.insert(1, _line("rule", at * scale, 0, at * scale, height - 22))
        parts.append(_words(at * scale, height - 6, word, style="note", anchor="middle"))
    return _svg(height, title, description, parts)


def _interval_bar(bar: Bar, top: float, scale: float, unit: str) -> Html:
    middle = top + 21 + _BAR / 2
    low, high = bar.low, bar.high
    text = f"{bar.value:.1f}{unit}"
    end = bar.value
    whisker = Html("")
    if low is not None and high is not None:
        left, right, end = max(low, 0) * scale, high * scale, max(high, bar.value)
        text += f"  [{low:.1f}, {high:.1f}]"
        shape = f"M{left:.1f} {middle}H{right:.1f}M{left:.1f} {middle - 5}v10"
        whisker = tag("path", class_="whisker", d=f"{shape}M{right:.1f} {middle - 5}v10")
    width = max(bar.value, 0) * scale
    return join(
        [
            _words(0, top + 15, _cut(f"{bar.label} · {bar.note}" if bar.note else bar.label, 100)),
            tag("rect", class_="bar", x=0, y=top + 21, width=width, height=_BAR, rx=2),
            whisker,
            _words(end * scale + 8, middle + 4.5, text),
        ]
    )


def stacked(
    stacks: Sequence[Stack], *, title: str, description: str, kinds: Sequence[Kind] = OUTCOMES
) -> Html:
    """Horizontal bars of full width, split by share, with the counts written in them."""
    height = _ROW * len(stacks) + 30
    parts = [_hatching(), *(_stack(stack, _ROW * row, kinds) for row, stack in enumerate(stacks))]
    at = 0.0
    for kind in kinds:
        parts.append(_block(kind, at, height - 18, 14, 14))
        parts.append(_words(at + 20, height - 6, kind.word, style="note"))
        at += 40 + 8 * len(kind.word)
    return _svg(height, title, description, parts)


def _stack(stack: Stack, top: float, kinds: Sequence[Kind]) -> Html:
    total = sum(stack.counts) or 1
    parts: list[Html] = [_words(0, top + 15, _cut(stack.label, 100))]
    at = 0.0
    for kind, count in zip(kinds, stack.counts, strict=True):
        width = WIDTH * count / total
        if count:
            parts.append(_block(kind, at, top + 21, width, _BAR))
        if width > 10 + 8 * len(str(count)):
            middle = at + width / 2
            text = _words(middle, top + 34.5, str(count), style=f"in {kind.style}", anchor="middle")
            parts.append(text)
        at += width
    return join(parts)


def _block(kind: Kind, x: float, y: float, width: float, height: float) -> Html:
    block = tag("rect", class_=kind.style, x=x, y=y, width=width, height=height)
    if not kind.hatched:
        return block
    over = tag("rect", fill="url(#hatch)", x=x, y=y, width=width, height=height)
    return join([block, over])


def _hatching() -> Html:
    stroke = tag("path", class_="hatch", d="M0 8L8 0")
    pattern = tag("pattern", stroke, id="hatch", width=8, height=8, patternUnits="userSpaceOnUse")
    return tag("defs", pattern)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[float | None]],
    *,
    title: str,
    description: str,
    centre: float,
    span: float,
) -> Html:
    """A grid of numbers, the stronger coloured the further they are from `centre`.

    Above the centre a cell has one colour and an up arrow, below it another and a down arrow;
    `span` away from it the colour is full. None leaves a cell empty.
    """
    left, head, row_height = 220, 84, 34
    width = min((WIDTH - left) / max(len(columns), 1), 110)
    parts = [_slanted(left + width * (i + 0.5), head - 8, name) for i, name in enumerate(columns)]
    for row, (label, values) in enumerate(zip(rows, cells, strict=True)):
        top = head + row_height * row
        parts.append(_words(left - 10, top + 21, _cut(label, 28), anchor="end"))
        for column, value in enumerate(values):
            place = (left + width * column, top, width, row_height)
            parts.append(_cell(value, place, (value or 0) - centre, span))
    return _svg(head + row_height * len(rows) + 6, title, description, parts)


def _cell(
    value: float | None, place: tuple[float, float, float, float], off: float, span: float
) -> Html:
    x, y, width, height = place
    empty = tag("rect", class_="cell", x=x, y=y, width=width, height=height)
    if value is None:
        return join([empty, _words(x + width / 2, y + 21, "–", style="note", anchor="middle")])
    style, arrow = ("up", "▲") if off > 0 else ("down", "▼")
    depth = 0.55 * min(1, abs(off) / span)
    colour = tag(
        "rect", class_=f"cell {style}", x=x, y=y, width=width, height=height, fill_opacity=depth
    )
    text = f"{value:.0f}" if abs(off) < 0.5 else f"{value:.0f} {arrow}"
    return join([empty, colour, _words(x + width / 2, y + 21, text, anchor="middle")])


def histogram(
    values: Sequence[float],
    *,
    title: str,
    description: str,
    bins: int = 20,
    low: float | None = None,
    high: float | None = None,
) -> Html:
    """How many values fall into each of `bins` equal steps from `low` to `high` (the extremes)."""
    first = min(values, default=0.0) if low is None else low
    last = max(values, default=1.0) if high is None else high
    step = (last - first) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(max(int((value - first) / step), 0), bins - 1)] += 1
    peak, wide, floor = max(counts) or 1, WIDTH / bins, 168
    parts: list[Html] = []
    for index, count in enumerate(counts):
        tall = 140 * count / peak
        at = wide * index
        parts.append(
            tag("rect", class_="bar", x=at + 1, y=floor - tall, width=wide - 2, height=tall)
        )
        if count:
            middle = at + wide / 2
            text = _words(middle, floor - tall - 4, str(count), style="note", anchor="middle")
            parts.append(text)
    parts.append(_line("axis", 0, floor + 0.5, WIDTH, floor + 0.5))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        word = f"{first + share * (last - first):g}"
        parts.append(_words(share * WIDTH, floor + 18, word, style="note", anchor=anchor))
    return _svg(floor + 26, title, description, parts)


def count_bars(bars: Sequence[tuple[str, int]], *, title: str, description: str) -> Html:
    """Horizontal bars of counts, each with its number and its share of them all."""
    total = sum(count for _, count in bars) or 1
    most = max((count for _, count in bars), default=0) or 1
    parts: list[Html] = []
    for row, (label, count) in enumerate(bars):
        top = _ROW * row
        width = (WIDTH - _RIGHT) * count / most
        parts += [
            _words(0, top + 15, _cut(label, 100)),
            tag("rect", class_="bar", x=0, y=top + 21, width=width, height=_BAR, rx=2),
            _words(width + 8, top + 34.5, f"{count:,} · {100 * count / total:.1f} %"),
        ]
    return _svg(_ROW * len(bars) + 4, title, description, parts)


def columns(bins: Sequence[tuple[str, int]], *, title: str, description: str) -> Html:
    """Upright bars for the counts of bins, each with its label below it."""
    peak, wide, floor = max((count for _, count in bins), default=0) or 1, 96.0, 168
    wide = min(wide, WIDTH / max(len(bins), 1))
    parts: list[Html] = []
    for index, (label, count) in enumerate(bins):
        at, tall = wide * index, 140 * count / peak
        middle = at + wide / 2
        parts += [
            tag("rect", class_="bar", x=at + 1, y=floor - tall, width=wide - 2, height=tall),
            _words(middle, floor - tall - 4, f"{count:,}", style="note", anchor="middle"),
            _words(middle, floor + 18, label, style="note", anchor="middle"),
        ]
    parts.append(_line("axis", 0, floor + 0.5, WIDTH, floor + 0.5))
    return _svg(floor + 26, title, description, parts)


# --- pieces ---


def _svg(height: float, title: str, description: str, parts: Sequence[Html]) -> Html:
    drawing = tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *parts,
        viewBox=f"0 0 {WIDTH} {height:g}",
        width=WIDTH,
        height=height,
        role="img",
        aria_label=f"{title}. {description}",
    )
    return tag("figure", drawing)


def _words(x: float, y: float, text: str, *, style: str = "", anchor: str = "start") -> Html:
    where = None if anchor == "start" else anchor
    return tag("text", text, class_=style or None, x=float(x), y=float(y), text_anchor=where)


def _slanted(x: float, y: float, text: str) -> Html:
    turn = f"rotate(-35 {x:.1f} {y:.1f})"
    return tag("text", _cut(text, 18), x=float(x), y=float(y), transform=turn)


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    return tag("path", class_=style, d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _nice(value: float) -> float:
    """The smallest round number that is at least `value`: where an axis can end."""
    power = 10.0 ** math.floor(math.log10(value))
    for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if step * power >= value * (1 - 1e-9):
            return step * power
    return value
