"""`openchat serve` and `openchat chat` as processes: ready line, signals, errors, piped chat."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.serving.server import Ready
from tests.conftest import RunCli

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `openchat serve …`; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "openchat_cli", "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ready_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_ready_answer_and_stop(
    start: Start, folder: Path, number: signal.Signals, code: int
) -> None:
    process = start("--model-path", folder, "--port", 0, "--json")
    ready = ready_line(process)
    assert (ready["kind"], ready["command"], ready["status"]) == ("summary", "serve", "ready")
    assert (ready["model"], ready["context"], ready["slots"]) == ("openchat", 2048, 32)
    body = {"model": "openchat", "messages": [{"role": "user", "content": "my secret"}]}
    got = httpx2.post(ready["url"] + "/chat/completions", json={**body, "max_tokens": 3})
    assert got.status_code == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == ""
    assert "curl " in err
    assert "POST /v1/chat/completions 200" in err
    assert "secret" not in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False])
def test_a_second_signal_ends_answers_under_way(start: Start, folder: Path, stream: bool) -> None:
    process = start("--model-path", folder, "--port", 0, "--json", "--quiet")
    url = ready_line(process)["url"]
    body = {"model": "openchat", "messages": [{"role": "user", "content": "Hello"}], "n": 16}
    body |= {
        "stream": stream,
        "max_tokens": 2000,
        "logit_bias": {"368": -100},
    }  # never ends its turn
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(httpx2.post, f"{url}/chat/completions", json=body, timeout=60)
        while httpx2.get(url.replace("/v1", "/health")).json()["answering"] < 16:
            assert not asked.done()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        got = asked.result(timeout=30)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert got.status_code == (200 if stream else 503)
    last = got.text.strip().rsplit("data: ", 1)[-1]
    assert json.loads(last)["error"]["code"] == "shutting_down"


def test_a_signal_while_loading(start: Start, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start("--model-path", folder, "--port", port)
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/health")
            break
        except httpx2.ConnectError:
            assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "Traceback" not in err


def failed(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.strip().splitlines()) <= 2  # the error, the hint
    for word in words:
        assert word in ended.stderr


def test_a_port_in_use(openchat: RunCli, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = openchat("serve", "--model-path", folder, "--port", port)
    failed(ended, 1, f"127.0.0.1:{port}", "in use", "--port")


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ([], 2, "--model-path"),
        (["--model-path", "nowhere", "--model-type", "openchat"], 1, "nowhere"),
        (["--model-path", "FOLDER", "--model-type", "opencaht"], 2, "did you mean 'openchat'"),
        (["--model-path", "."], 2, "--model-type"),
        (["--model-path", "FOLDER", "--model-type", "opencoder"], 2, "prepared as openchat"),
        (["--model-path", "FOLDER", "--host", "0.0.0.0"], 2, "--allow-unauthenticated"),
        (["--model-path", "FOLDER", "--dtype", "fp23"], 2, "fp32"),
        pytest.param(
            ["--model-path", "FOLDER", "--device", "tpu9"], 2, "tpu9", marks=pytest.mark.slow
        ),
        pytest.param(
            ["--model-path", "FOLDER", "--context", "9999"], 2, "9999", marks=pytest.mark.slow
        ),
        (["--model-path", "FOLDER", "--temperature", "-1"], 2, "temperature"),
        (["--model-path", "FOLDER", "--api-key-file", "none.txt"], 1, "none.txt"),
    ],
)
def test_what_can_not_be_served(
    openchat: RunCli, folder: Path, options: list[str], code: int, word: str
) -> None:
    named = [str(folder) if option == "FOLDER" else option for option in options]
    failed(openchat("serve", *named, "--port", 0, "--quiet"), code, word)


@pytest.mark.slow
def test_keys_come_from_the_environment(openchat: RunCli, folder: Path, start: Start) -> None:
    os.environ["OPENCHAT_API_KEYS"] = "sk-one, sk-two"
    try:
        process = start("--model-path", folder, "--port", 0, "--json")
    finally:
        del os.environ["OPENCHAT_API_KEYS"]
    url = ready_line(process)["url"]
    assert httpx2.get(url + "/models").status_code == 401
    ended = openchat("chat", "--url", url, stdin="Hello\n")
    failed(ended, 1, "OPENAI_API_KEY")
    ended = openchat("chat", "--url", url, stdin="Hello\n", env={"OPENAI_API_KEY": "sk-two"})
    assert ended.returncode == 0, ended.stderr
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert "sk-" not in err


def test_chat_over_a_server_answers_line_by_line(openchat: RunCli, server: Ready) -> None:
    options = ("--url", server.url, "--temperature", 0, "--max-tokens", 6, "--json")
    one = openchat("chat", *options, stdin="Hello\n")
    assert one.returncode == 0, one.stderr
    summary = json.loads(one.stderr.splitlines()[-1])
    assert (summary["command"], summary["counts"]) == ("chat", {"turns": 1})
    two = openchat("chat", *options, stdin="Hello\n\n/new\nHello\n")
    assert two.stdout == one.stdout * 2
    assert json.loads(two.stderr.splitlines()[-1])["counts"] == {"turns": 2}


@pytest.mark.slow
def test_chat_in_process_says_the_same_as_the_server(
    openchat: RunCli, server: Ready, folder: Path
) -> None:
    options = ("--temperature", 0, "--max-tokens", 6, "--quiet")
    remote = openchat("chat", "--url", server.url, *options, stdin="Hello\nthe world\n")
    local = openchat("chat", "--model-path", folder, *options, stdin="Hello\nthe world\n")
    assert local.returncode == 0, local.stderr
    assert local.stdout == remote.stdout


def test_chat_refuses_what_is_no_text(server: Ready) -> None:
    command = [sys.executable, "-m", "openchat_cli", "chat", "--url", server.url]
    ended = subprocess.run(command, input=b"\xff\xfeHello\n", capture_output=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.decode().strip() == "error: stdin: a line is not UTF-8"


def test_chat_without_a_server(openchat: RunCli, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    failed(openchat("chat", "--url", f"http://127.0.0.1:{port}"), 1, "openchat serve")
    failed(openchat("chat", "--url", "nonsense"), 1, "not the URL")
    failed(openchat("chat", "--model-path", "./none"), 1, "none: no such folder")
    failed(openchat("chat", "--url", "http://x", "--model-path", folder), 2, "give one")
