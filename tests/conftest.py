"""For every test: an environment without the user's own settings, and the CLI as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Two test processes with two threads each fight over two cores; tiny models need one. Set before
# anything imports torch, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no colour, no hub, and no OPENCHAT_ setting of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith(("OPENCHAT_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    # Typer forces colours into its help where this is set.
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    yield


@pytest.fixture
def openchat(tmp_path: Path) -> RunCli:
    """Run `openchat ARGUMENTS` as a process in a temporary folder."""

    def run(
        *arguments: object,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "openchat_cli", *map(str, arguments)],
            input=stdin,
            env={**os.environ, **(env or {})},
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the project; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not there (real data beside the project)")
    return SHARED


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole `openchat demo`, run once for all slow tests that look at its files."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    ended = subprocess.run(
        [sys.executable, "-m", "openchat_cli", "demo", str(folder), "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    (folder.parent / "summary.json").write_text(ended.stdout)
    return folder
