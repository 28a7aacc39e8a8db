"""Loading, draining and stopping, seen from outside the process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving.raw import CHAT, HELLO, connect, request, until

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start `openchat serve`; gives the process, and the root of its URL before it is ready."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        named = ["serve", "--model-path", folder, "--port", port, *arguments]
        process = subprocess.Popen(
            [sys.executable, "-m", "openchat_cli", *map(str, named)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def health(root: str) -> tuple[int, dict[str, Any]] | None:
    """None where nobody listens."""
    try:
        got = httpx2.get(root + "/health", timeout=20)
    except httpx2.ConnectError:
        return None
    return got.status_code, got.json()


def wait_until_ready(root: str) -> None:
    until(lambda: (found := health(root)) is not None and found[0] == 200, 60)


def forever(tokens: int) -> dict[str, Any]:
    """`tokens` tokens, and no end of turn before."""
    return HELLO | {"max_tokens": tokens, "logit_bias": {"368": -100}}


def test_loading_then_drain(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "log"
    process, root = start("--log-file", file)
    seen: list[tuple[int, dict[str, Any]]] = []
    while not seen or seen[-1][0] != 200:
        assert process.poll() is None
        found = health(root)
        if found is not None:
            seen.append(found)
            assert found[1].keys() >= ({"stage", "done", "total"} if found[0] == 503 else {"slots"})
        time.sleep(0.01)
    assert (seen[0][0], seen[0][1]["status"]) == (503, "loading")
    assert seen[-1][1]["status"] == "ok"

    results: dict[str, httpx2.Response] = {}

    def ask(name: str, stream: bool) -> None:
        body = forever(600) | {"stream": stream}
        results[name] = httpx2.post(root + CHAT, json=body, timeout=60)

    threads = [threading.Thread(target=ask, args=pair) for pair in (("a", True), ("b", False))]
    for thread in threads:
        thread.start()
    until(lambda: health(root)[1]["answering"] == 2)  # type: ignore[index]  # somebody listens
    process.send_signal(signal.SIGTERM)
    until(lambda: health(root)[0] == 503)  # type: ignore[index]  # as above
    assert health(root)[1]["status"] == "stopping"  # type: ignore[index]  # as above
    late = httpx2.post(root + CHAT, json=HELLO)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
    assert late.headers["connection"] == "close"
    assert int(late.headers["retry-after"]) >= 1
    for thread in threads:
        thread.join()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert results["b"].json()["usage"]["completion_tokens"] == 600
    assert results["a"].text.endswith("data: [DONE]\n\n")
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(e.get("completion_tokens") == 600 for e in entries) == 2


CRASHES = """
import sys
from openchat_cli.cli.main import main
from openchat_cli.engine.runner import Runner

decode, steps = Runner.decode, 0

def lost(self, *arguments):
    global steps
    steps += 1
    if steps > 100:
        raise RuntimeError("device lost")
    return decode(self, *arguments)

Runner.decode = lost
sys.exit(main(sys.argv[1:]))
"""


def test_a_crash_ends_the_process_after_everyone_is_told(folder: Path) -> None:
    arguments = ["serve", "--model-path", str(folder), "--port", "0", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", CRASHES, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        root = json.loads(process.stdout.readline())["url"].removesuffix("/v1")
        answers: list[httpx2.Response] = []

        def ask(stream: bool) -> None:
            body = forever(2000) | {"stream": stream}
            answers.append(httpx2.post(root + CHAT, json=body, timeout=30))

        threads = [threading.Thread(target=ask, args=[n % 2 == 0]) for n in range(6)]
        for thread in threads:
            thread.start()
        seen = []
        until(lambda: seen.append(health(root)) or seen[-1] is None, 30)  # type: ignore[func-returns-value]  # append
        for thread in threads:
            thread.join()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error: the engine stopped: RuntimeError: device lost" in err
    failed = [found for found in seen if found is not None and found[1]["status"] == "failed"]
    assert failed
    assert {status for status, _ in failed} == {503}
    assert len(answers) == 6
    for got in answers:
        error = json.loads(got.text.rpartition("data: ")[2])["error"]
        assert "device lost" in error["message"]
        assert got.status_code == 200 or error["code"] == "generation_failed"


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False])
def test_the_grace_has_an_end(start: Start, stream: bool) -> None:
    process, root = start("--shutdown-seconds", 0.5)
    wait_until_ready(root)
    results: list[httpx2.Response] = []

    def ask() -> None:
        body = forever(2000) | {"stream": stream, "n": 16}
        results.append(httpx2.post(root + CHAT, json=body, timeout=60))

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: health(root)[1]["answering"] == 16)  # type: ignore[index]  # somebody listens
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = process.communicate(timeout=20)
    thread.join()
    assert time.monotonic() - began < 5
    assert process.returncode == 143
    assert "Traceback" not in err
    last = results[0].text.strip().rpartition("data: ")[2]
    assert json.loads(last)["error"]["code"] == "shutting_down"


def test_a_timeout_and_a_full_queue(start: Start) -> None:
    options = ("--max-slots", 1, "--queue-size", 1, "--request-timeout", 1.5)
    process, root = start(*options)
    wait_until_ready(root)
    slow = forever(2000) | {"temperature": 1.5}
    with connect(root) as first, connect(root) as second:
        first.sendall(request(slow))
        until(lambda: health(root)[1]["answering"] == 1)  # type: ignore[index]  # somebody listens
        second.sendall(request(slow))
        until(lambda: health(root)[1]["waiting"] == 1)  # type: ignore[index]  # as above
        refused = httpx2.post(root + CHAT, json=HELLO)
        assert refused.status_code == 429
        assert "Rate limit" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
    until(lambda: health(root)[1]["answering"] == 0)  # type: ignore[index]  # as above
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert "429" in err
