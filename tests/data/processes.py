"""Runs of `data clean` as processes that tests stop, kill and look into."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

OUTPUTS = ("clean.report.json", "conversations.jsonl", "dropped.jsonl")

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


# Workers that take their time over each batch.
SLOW = """
import sys, time
if "openchat_cli.data.worker" in " ".join(sys.orig_argv):
    from openchat_cli.data import worker
    whole = worker.work
    def work(settings, items):
        time.sleep(0.1)
        return whole(settings, items)
    worker.work = work
"""


def start(folder: Path, *arguments: object, **env: str) -> subprocess.Popen[str]:
    """`openchat data clean ARGUMENTS`, begun."""
    command = [sys.executable, "-m", "openchat_cli", "data", "clean", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started_with(folder: Path, code: str) -> dict[str, str]:
    """An environment in which every Python process runs that code first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code, "utf-8")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something; fails when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The living child processes of a process."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text("utf-8").rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file in an output folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def finished(out: Path) -> list[Path]:
    """The shards that a run has finished."""
    return [path for path in out.glob(".clean/*") if not path.name.startswith((".", "outputs"))]
