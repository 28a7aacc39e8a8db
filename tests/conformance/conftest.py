"""A real server in a process of its own, for clients in an environment of their own.

`make conformance` installs the clients apart from the project: their pins are not its business.
The server runs under SERVER_PYTHON, by default the Python that runs the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("SERVER_PYTHON", sys.executable)
MODEL = "openchat"


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str  # with /v1
    folder: Path
    process: subprocess.Popen[str]

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")


def project(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a module of the project under the server's Python."""
    return subprocess.run(
        [PYTHON, "-m", *map(str, arguments)],
        cwd=ROOT,
        env=_environment(),
        text=True,
        check=True,
        timeout=120,
        **more,
    )


def _environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENCHAT_", "OPENAI_"))
    }
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {**kept, **paths, **more}


@contextlib.contextmanager
def serve(folder: Path, *options: object, keys: str = "") -> Iterator[Server]:
    """`openchat serve` of a folder on a free port."""
    command = [PYTHON, "-m", "openchat_cli", "serve", "--model-path", str(folder)]
    command += ["--port", "0", "--json", "--threads", "1", *map(str, options)]
    environment = _environment(**({"OPENCHAT_API_KEYS": keys} if keys else {}))
    process = subprocess.Popen(
        command, cwd=folder.parent, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield Server(ready["url"], folder, process)
        assert process.poll() is None, "the server ended before it was told to"
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    project("tests.conformance.model", "make", path)
    return path


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    with serve(folder, "--max-tokens", 16, "--max-slots", 8) as running:
        yield running


@pytest.fixture
def serving(folder: Path) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Start another server, with options of its own."""
    return lambda *options, **more: serve(folder, *options, **more)


@pytest.fixture(autouse=True)
def _no_key_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


# --- nothing may be left out quietly ---

# LangChain's tests of what this server does not offer; each would skip itself.
_NOT_OFFERED = (
    "tool",
    "structured",
    "json_mode",
    "image",
    "pdf",
    "audio",
    "agent_loop",
    "anthropic",
)
_NOT_ASKED = ("test_stream_time",)  # replays recorded answers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="A test that is skipped has failed.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if "test_langchain" in item.nodeid and _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_left_out(item: pytest.Item) -> bool:
    name = item.name.partition("[")[0]
    return name in _NOT_ASKED or any(word in name for word in _NOT_OFFERED)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not session.config.getoption("--no-skips", default=False):
        return
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and (reporter.stats.get("skipped") or not reporter.stats.get("passed")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
