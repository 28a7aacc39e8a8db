"""How fast pages are cleaned and conversations converted: `python tests/benchmarks/data.py`.

CPU seconds, everything in one run. The peers live in an environment of the benchmark's own, made on
the first run from the package index.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

PARTS = ("clean", "convert", "memory")


def main() -> None:
    for name in PARTS:
        path = f"tests.benchmarks.parts.{name}"
        if importlib.util.find_spec(path):
            importlib.import_module(path).run()


if __name__ == "__main__":
    main()
