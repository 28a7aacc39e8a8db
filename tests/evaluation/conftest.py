"""The command line within the test's process, for what ends before any work."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openchat_cli.cli.main import main

InProcess = Callable[..., tuple[int, str]]


@pytest.fixture
def quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[InProcess]:
    """Run `openchat ARGUMENTS` in a temporary folder; gives its exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    yield run
    signal.signal(signal.SIGTERM, handler)
