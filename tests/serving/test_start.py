"""What `openchat serve` shows as it starts, in a pipe and on a terminal; and its curl line, run."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.cli import start_screen

SERVE = [sys.executable, "-m", "openchat_cli", "serve", "--port", "0", "--model-path"]
Serve = Callable[..., list[str]]
curl_there = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Start `openchat serve` and give what it says on stderr up to its last line of the screen."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: object, env: dict[str, str] | None = None) -> list[str]:
        process = subprocess.Popen(
            [*SERVE, str(folder), "--max-slots", "3", *map(str, options)],
            env={**os.environ, **(env or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stderr is not None
        said: list[str] = []
        while not said or "openchat chat --url" not in said[-1]:
            line = process.stderr.readline()
            assert line, said
            said.append(line.rstrip("\n"))
        return said

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def pasted(said: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the curl line as a shell does that has it pasted in."""
    line = next(line for line in said if line.strip().startswith("curl "))
    ended = subprocess.run(
        line, shell=True, env={**os.environ, **(env or {})}, capture_output=True, timeout=60
    )
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


@curl_there
def test_one_screen_and_a_curl_line_that_works(serve: Serve, folder: Path) -> None:
    said = serve()
    shown = dict(
        re.split(r"  +", line, maxsplit=1) for line in said if re.match(r"[A-Za-z ]+  +", line)
    )
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", shown["API"])
    assert shown["chat page"] == shown["API"].removesuffix("v1")
    assert shown["model"] == "openchat"
    assert shown["context"] == "2,048 tokens"
    assert shown["slots"] == "3 requests together"
    assert re.fullmatch(r"weights \d+\.\d KiB, slots 3\.0 MiB as they fill", shown["memory"])
    assert shown["device"] == "cpu, float32"
    assert shown["keys"].startswith("none")
    assert any(line.startswith(f"loading {folder.name}: ") for line in said)
    assert any(line.startswith("answering a first token: 1/1") for line in said)
    answer = pasted(said)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] > 0


@pytest.mark.slow
@curl_there
def test_the_curl_line_finds_the_key_and_shows_none(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "the keys.txt"
    file.write_text("# ours\n\nsk-secret-1\nsk-secret-2\n")
    said = serve("--api-key-file", file)
    assert "sk-secret" not in "\n".join(said)
    assert pasted(said)["usage"]["completion_tokens"] > 0
    keys = {"OPENCHAT_API_KEYS": "sk-secret-3,sk-secret-4"}
    said = serve(env=keys)
    assert "sk-secret" not in "\n".join(said)
    assert pasted(said, keys)["usage"]["completion_tokens"] > 0
    assert pasted(said)["error"]["code"] == "invalid_api_key"


@pytest.mark.slow
def test_on_a_narrow_terminal_the_lines_to_copy_stay_whole(folder: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*SERVE, str(folder), "--json"],
        env={**os.environ, "COLUMNS": "50", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    assert process.stdout is not None
    with process.stdout:
        ready = json.loads(process.stdout.readline())
    shown = ""
    while "openchat chat --url" not in shown:
        shown += os.read(ours, 4096).decode()
    process.send_signal(signal.SIGINT)
    while True:  # a terminal that nobody reads holds its writer up
        try:
            if not os.read(ours, 4096):
                break
        except OSError:
            break
    os.close(ours)
    assert process.wait(timeout=30) == 130
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    line = next(line for line in plain.splitlines() if line.strip().startswith("curl "))
    assert line.rstrip().endswith("}'")
    assert f"│ API        {ready['url']}" in plain
    assert "loading " in plain
    assert httpx2.URL(ready["url"]).port


def test_sizes_for_people() -> None:
    assert [start_screen.readable(size) for size in (5, 2048, 3 * 2**20, 13 * 2**30 + 2**29)] == [
        "5 bytes",
        "2.0 KiB",
        "3.0 MiB",
        "13.5 GiB",
    ]
