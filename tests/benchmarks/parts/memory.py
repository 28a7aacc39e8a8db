"""Peak memory: `data convert` over ever more conversations, and a rank reading the dataset."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.parts import corpus, table

SIZES = (1_000, 10_000, 50_000)
LOADED = 20_000  # conversations that a rank reads
BAR = 600  # MB

_LOAD = """
import sys
from pathlib import Path
from openchat_cli.training import dataset
found = dataset.load(Path(sys.argv[1]), 60_000).data
found.supervised, found.lengths
for index in range(0, len(found), 7):
    found.record(index)[0].sum()
"""


def run() -> None:
    """Print peak resident memory per process, and the time of reading the dataset."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = _tokenizer(folder)
        rows = [_convert(folder, tokenizer, size) for size in SIZES]
        table("convert, peak memory of the process", rows)
        table(f"what a rank needs to read {LOADED:,} conversations", _loads(folder, tokenizer))


def _tokenizer(folder: Path) -> Path:
    shared = corpus.SHARED / "tokenizers" / "starcoder"
    if shared.is_dir():
        return shared
    from tests.core.small import make_byte_level

    make_byte_level(folder / "tokenizer")
    return folder / "tokenizer"


def _convert(folder: Path, tokenizer: Path, size: int) -> tuple[str, str, str]:
    rows = folder / "rows.jsonl"
    corpus.write(rows, corpus.made(size))
    out = folder / "out"
    command = ["-m", "openchat_cli", "data", "convert", str(rows), str(out), "--quiet", "--force"]
    peak, seconds = _measure(
        [*command, "--model-type", "opencoder", "--model-path", str(tokenizer)]
    )
    megabytes = rows.stat().st_size / 1e6
    what = f"{size:,} conversations, {megabytes:.0f} MB"
    return what, f"{peak:.0f} MB, {seconds:.1f} s CPU", f"bar: < {BAR} MB"


def _loads(folder: Path, tokenizer: Path) -> list[tuple[str, str, str]]:
    _convert(folder, tokenizer, LOADED)
    path = folder / "out" / "opencoder.train.json"
    found = []
    for what in ("mapped", "parsed (no twin)", "parsed whole by json.loads"):
        script = _LOAD
        if what.startswith("parsed"):
            path.with_suffix(".safetensors").unlink(missing_ok=True)
        if what.endswith("json.loads"):
            script = "import json, sys; json.load(open(sys.argv[1]))"
        peak, seconds = _measure(["-c", script, str(path)])
        found.append((what, f"{peak:.0f} MB, {seconds:.2f} s CPU", ""))
    base, _ = _measure(["-c", "import numpy, openchat_cli.training.dataset"])
    found.append(("an interpreter with numpy, which each of them is as well", f"{base:.0f} MB", ""))
    size = path.stat().st_size / 1e6
    return [(f"the JSON is {size:.0f} MB on disk", "", ""), *found]


def _measure(arguments: list[str]) -> tuple[float, float]:
    """(peak resident MB, CPU seconds) of a Python process."""
    environment = {**os.environ, "PYTHONPATH": str(corpus.ROOT), "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen([sys.executable, *arguments], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments}: ended with {process.returncode}")
    return usage.ru_maxrss / 1000, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    run()
