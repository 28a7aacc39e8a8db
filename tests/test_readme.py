"""Every command of the README runs as it stands, in the order in which it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The two set-up commands are the ones that run this test and the demo (see .ci/run).
SETUP = {"make demo", "make test"}


def blocks(text: str) -> list[str]:
    """The shell blocks of a Markdown text."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)


def test_the_readme_has_its_two_commands() -> None:
    first = blocks((ROOT / "README.md").read_text("utf-8"))[0]
    assert {line.split("#")[0].strip() for line in first.splitlines()} >= SETUP


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_runs(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(demo_folder)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = ["set -euo pipefail"]
    for block in blocks((ROOT / "README.md").read_text("utf-8")):
        lines = [line for line in block.splitlines() if line.split("#")[0].strip() not in SETUP]
        script += lines
    ended = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
