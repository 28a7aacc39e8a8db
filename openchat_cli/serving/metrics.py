"""Numbers for Prometheus, in its text format (version 0.0.4).

Written by hand because it is so little: counters, gauges, histograms and one page of text.
"""

from __future__ import annotations

import math
import os
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

Labels = Mapping[str, str]


class Counter:
    """Numbers that only grow, one for each combination of labels."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self._values: dict[tuple[tuple[str, str], ...], float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count."""
        key = tuple(sorted(labels.items()))
        self._values[key] = self._values.get(key, 0) + amount

    def lines(self) -> Iterable[str]:
        """Its part of the page."""
        yield from head(self.name, self.text, "counter")
        for key, value in sorted(self._values.items()):
            yield sample(self.name, dict(key), value)


class Histogram:
    """How often a duration fell under each bound."""

    def __init__(self, name: str, text: str, bounds: Sequence[float] = SECONDS) -> None:
        self.name, self.text = name, text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Take one in."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> Iterable[str]:
        """Its part of the page."""
        yield from head(self.name, self.text, "histogram")
        below = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            below += count
            yield sample(f"{self.name}_bucket", {"le": number(bound)}, below)
        yield sample(f"{self.name}_sum", {}, self._sum)
        yield sample(f"{self.name}_count", {}, below)


class Reading:
    """A number that is looked up when the page is asked for; None leaves it out."""

    def __init__(
        self,
        name: str,
        text: str,
        read: Callable[[], float | None],
        kind: Literal["gauge", "counter"] = "gauge",
    ) -> None:
        self.name, self.text = name, text
        self._read, self._kind = read, kind

    def lines(self) -> Iterable[str]:
        """Its part of the page."""
        value = self._read()
        if value is not None:
            yield from head(self.name, self.text, self._kind)
            yield sample(self.name, {}, value)


Metric = Counter | Histogram | Reading


def page(metrics: Iterable[Metric]) -> str:
    """The whole text."""
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def head(name: str, text: str, kind: str) -> tuple[str, str]:
    """The two lines before a metric's samples."""
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def sample(name: str, labels: Labels, value: float) -> str:
    """One line."""
    if not labels:
        return f"{name} {number(value)}"
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{shown}}} {number(value)}"


def number(value: float) -> str:
    """As Prometheus writes numbers."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# --- of the process ---


def resident_bytes() -> float | None:
    """Memory in use; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def open_files() -> float | None:
    """Open descriptors, sockets too; None where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    # The listing itself holds one open.
    return float(len(os.listdir("/proc/self/fd")) - 1)  # noqa: PTH208  # a Path for each is waste
