"""Settings of the evaluation commands; light, because the command line reads defaults off them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportSettings:
    """`openchat eval report`: the runs to show, and where `report.html` and `report.json` go."""

    runs: tuple[Path, ...]
    out: Path | None = None  # None: the first run's folder
    bootstrap: int = 10_000  # resamples behind each interval
    seed: int = 42
    force: bool = False
