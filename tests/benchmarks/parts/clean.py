"""How fast pages are cleaned, beside the ways that others have: CPU seconds, page by page.

Every contender is a process that gets one page after the other, and all of them take turns, so that
what else the machine does weighs on all alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tests.benchmarks.parts import contender, prose, table
from tests.data import generator

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "conversations" / "sharegpt_en_506.jsonl"
PEERS = (
    "beautifulsoup4==4.12.2",
    "markdownify==0.11.6",
    "html2text==2025.4.15",
    "html-to-markdown==3.21.2",
)
COUNT = 400
TURN = 25  # pages, before the next contender gets the same ones

# name -> (what it is, whether it runs in the peers' environment)
CONTENDERS = {
    "ours": ("ours (the whole of clean)", False),
    "json": ("bare JSON, the limit", False),
    "bs4": ("the page through bs4, no more", True),
    "plain": ("the plain way of 2023", True),
    "html2text": ("html2text, script by bytes", True),
    "html-to-markdown": ("html-to-markdown (Rust), script by bytes", True),
}
BARS = {("plain", True): 12.0, ("plain", False): 5.0}


def run() -> None:
    """Print how many times as fast as the others we are."""
    python = peers_python()
    for title, conversations in (
        ("generated, as dense as real text", prose.conversations(COUNT)),
        ("generated, ten times as dense", _dense()),
        ("real text", _real()),
    ):
        for full in (True, False):
            if conversations:
                _measure(
                    f"{title}, {'full pages' if full else 'script only'}",
                    conversations,
                    full,
                    python,
                )


def peers_python() -> Path | None:
    """The interpreter of an environment with the peers, made once; None where that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openchat-bench"
    name = hashlib.sha256("\n".join((sys.version, *PEERS)).encode()).hexdigest()[:12]
    folder = cache / name
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"making an environment for the peers in {folder}", file=sys.stderr)
    try:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the peers can't be installed: {error}", file=sys.stderr)
        return None
    (folder / "complete").touch()
    return python


def _dense() -> list[list[tuple[str, str]]]:
    """The test generator's conversations, thick with everything ChatGPT can show."""
    return [list(page.messages) for page in generator.pages(COUNT) if page.reason is None]


def _real() -> list[list[tuple[str, str]]]:
    """Real conversations beside the project; [] where they are not there."""
    if not REAL.exists():
        return []
    found: list[list[tuple[str, str]]] = []
    for line in REAL.read_text("utf-8").splitlines():
        turns = [(turn["from"], turn["value"]) for turn in json.loads(line)["conversations"]]
        turns = turns[turns[0][0] == "gpt" :]
        if len(turns) > 1:
            found.append(turns)
    return found[:COUNT]


def _measure(
    title: str, conversations: list[list[tuple[str, str]]], full: bool, python: Path | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        files = []
        size = content = 0
        for number, turns in enumerate(conversations):
            path = Path(name) / f"{number:06d}.html"
            page = generator.page(turns, name=f"id{number}", full=full)
            size, content = size + len(page), content + len(contender.script(page))
            path.write_bytes(page)
            files.append(path)
        taken = _seconds(files, python)
    rows = [
        ("a page against its data", f"{size / content:.2f} x", "(saved ones: 5)" if full else "")
    ]
    if python:
        share = f"{taken['bs4'] / taken['plain']:.0%}"
        rows.append(("bs4's part of the plain way", share, "(saved ones: 60 %)" if full else ""))
    rows.append(("ours", f"{len(files) / taken['ours']:.0f} pages/s", ""))
    for key, seconds in taken.items():
        if key != "ours":
            least = BARS.get((key, full))
            bar = f"(bar: {least:g})" if least else ""
            rows.append((f"against {CONTENDERS[key][0]}", f"{seconds / taken['ours']:.2f} x", bar))
    table(f"clean, {title}: {len(files)} pages, {size / len(files) / 1000:.1f} kB each", rows)


def _seconds(files: Sequence[Path], python: Path | None) -> dict[str, float]:
    """CPU seconds of every contender over all files."""
    with contextlib.ExitStack() as stack:
        running = {
            key: stack.enter_context(_contender(key, python if theirs else Path(sys.executable)))
            for key, (_, theirs) in CONTENDERS.items()
            if python or not theirs
        }
        taken = dict.fromkeys(running, 0.0)
        turns = [files[begin : begin + TURN] for begin in range(0, len(files), TURN)]
        for number, turn in enumerate([files[:TURN], *turns]):
            for key, (questions, answers) in running.items():
                print(*turn, sep="\t", file=questions, flush=True)
                seconds = float(answers.readline())
                taken[key] += seconds if number else 0.0  # the first turn warms up
    return taken


@contextlib.contextmanager
def _contender(key: str, python: Path | None) -> Iterator[tuple[IO[str], IO[str]]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [str(python), str(Path(__file__).with_name("contender.py")), key]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin and process.stdout
        yield process.stdin, process.stdout
        process.stdin.close()
