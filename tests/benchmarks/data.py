"""How fast pages are cleaned and conversations converted: `python tests/benchmarks/data.py`.

CPU seconds, everything in one run. The peers live in an environment of the benchmark's own, made on
the first run from the package index.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("clean", "convert", "memory")


def main() -> None:
    for name in PARTS:
        # In a process of its own: a child's peak memory counts what its parent held as it began.
        code = f"from tests.benchmarks.parts import {name} as part; part.run()"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
