"""What goes wrong at an upstream: refusals, garbage, silence, death. Each fails its request alone,
in OpenAI's shape, and tells nothing of keys or machines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.core.errors import OpenChatError
from openchat_cli.serving.server import Ready, background
from tests.serving.broken import STREAM, Broken, answer, broken_server, event
from tests.serving.test_command import ready_line
from tests.serving.test_upstream import front, until

END = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def behind() -> Iterator[Broken]:
    with broken_server() as state:
        yield state


@pytest.fixture(scope="module")
def server(behind: Broken, folder: Path) -> Iterator[Ready]:
    settings = front(behind.url, model_path=folder, timeout=1.0)
    with background(settings) as ready:
        yield ready


@pytest.fixture(autouse=True)
def _clean(behind: Broken) -> None:
    behind.said, behind.then, behind.hold = b"", None, False
    behind.asked.clear()


def ask(server: Ready, **body: Any) -> httpx2.Response:
    messages = [{"role": "user", "content": "Hello"}]
    return httpx2.post(
        server.url + "/chat/completions",
        json={"model": "openchat", "messages": messages, **body},
        timeout=30,
    )


SECRET = {"error": {"message": "key sk-upstream of http://10.0.0.1", "type": "x", "code": "y"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (answer(401, SECRET), 502, "upstream_refused"),
        (answer(403, SECRET), 502, "upstream_refused"),
        (answer(404, SECRET), 502, "upstream_refused"),
        (answer(500, SECRET), 502, "upstream_failed"),
        (answer(500, b"<html>\xff"), 502, "upstream_failed"),
        (answer(302, b"", "Location: http://127.0.0.1:1/"), 502, "upstream_failed"),
        (answer(504, SECRET), 504, "upstream_timeout"),
        (answer(413, {"error": {"message": "too large"}}), 413, "request_too_large"),
        (answer(400, {"error": {"message": "no", "code": "bad_thing"}}), 400, "bad_thing"),
        (answer(400, {"object": "error", "message": "no", "code": 400}), 400, None),
        (answer(422, {"detail": [{"msg": "no"}]}), 400, None),
        (answer(400, b"[" * 5000), 400, None),
        (answer(200, {"choices": []}), 502, "upstream_failed"),
        (answer(200, b"garbage"), 502, "upstream_failed"),
        (b"garbage\r\n\r\n", 502, "upstream_failed"),
        (b"", 502, "upstream_failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Ty", 502, "upstream_failed"),
    ],
)
def test_before_anything_is_said(
    said: bytes, status: int, code: str | None, stream: bool, server: Ready, behind: Broken
) -> None:
    behind.said = said
    got = ask(server, stream=stream)
    assert got.status_code == status, got.text
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert "sk-" not in got.text
    assert "10.0.0.1" not in got.text


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "passed"),
    [
        ("Retry-After: 17", "17"),
        ("Retry-After: Wed, 21 Oct 2037 07:28:00 GMT", "Wed, 21 Oct 2037 07:28:00 GMT"),
        ("Retry-After: <script>", "5"),
        ("X: y", "5"),
    ],
)
def test_busy_is_passed_on(
    status: int, header: str, passed: str, server: Ready, behind: Broken
) -> None:
    behind.said = answer(status, SECRET, header)
    for stream in (False, True):
        got = ask(server, stream=stream)
        assert (got.status_code, got.headers["retry-after"]) == (status, passed)
        assert "sk-" not in got.text


@pytest.mark.parametrize(
    "rest",
    [
        b"",  # cut off
        b"data: {half",
        b"data: nonsense\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b'data: {"choices": [{"index": 0, "text": 7}]}\n\n',
        b'data: {"choices": [{"index": 0, "text": "x", "logprobs": {"tokens": [1]}}]}\n\n',
        b'data: {"choices": "x"}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"error": {"message": "sk-upstream", "code": 500}}\n\n',
        END,  # without a reason
        event(reason="abort") + END,
    ],
)
def test_in_the_middle(rest: bytes, server: Ready, behind: Broken) -> None:
    behind.said, behind.then = STREAM + event("one ") + event("two"), rest
    got = ask(server, stream=True)
    assert got.status_code == 200
    *chunks, last = [line for line in got.text.split("\n\n") if line]
    text = "".join(json.loads(one[6:])["choices"][0]["delta"].get("content", "") for one in chunks)
    assert text == "one two"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_failed"
    whole = ask(server)
    assert (whole.status_code, whole.json()["error"]["code"]) == (502, "upstream_failed")
    assert "sk-" not in got.text + whole.text


def test_oddities_that_are_fine(server: Ready, behind: Broken) -> None:
    odd = b": ping\r\n\r\nevent: x\r\ndata:" + event("a\u2028")[6:].replace(b"\n\n", b"\r\n\r\n")
    surrogate = b'data: {"choices": [{"index": 0, "text": "\\ud83d"}], "usage": null}\n\n'
    behind.said = STREAM + odd + surrogate + event("b", "stop")  # and no [DONE]
    got = ask(server)
    assert got.json()["choices"][0]["message"]["content"] == "a\u2028\ufffdb"
    assert got.json()["usage"]["completion_tokens"] > 0  # counted here


def test_silence_ends_in_time(server: Ready, behind: Broken) -> None:
    behind.said, behind.hold = b"", True
    assert ask(server).status_code == 504
    until(lambda: behind.asked[-1] == b"gone", 5)
    behind.said = STREAM + event("one ")
    got = ask(server, stream=True)
    assert json.loads(got.text.strip().split("data: ")[-1])["error"]["code"] == "upstream_timeout"


def test_what_the_upstream_is_told(server: Ready, behind: Broken) -> None:
    behind.said = STREAM + event("a", "stop") + END
    headers = {"Authorization": "Bearer sk-client", "Cookie": "sk-cookie", "X-Mine": "sk-mine"}
    body = {"model": "openchat", "messages": [{"role": "user", "content": "Hello"}], "user": "me"}
    got = httpx2.post(server.url + "/chat/completions", json=body, headers=headers)
    assert got.status_code == 200
    head, _, sent = behind.asked[0].partition(b"\r\n\r\n")
    assert b"authorization: bearer sk-upstream" in head.lower()
    assert b"sk-c" not in head
    assert b"sk-mine" not in head
    asked = json.loads(sent)
    assert asked["model"] == "behind"
    assert all(isinstance(token, int) for token in asked["prompt"])
    # Neutral settings are not sent, so that strict servers do not stumble.
    names = {"model", "prompt", "max_tokens", "temperature", "top_p"}
    assert asked.keys() == names | {"stream", "stream_options", "stop_token_ids"}
    long = [{"role": "user", "content": "x " * 400}]
    refused = httpx2.post(server.url + "/chat/completions", json=body | {"messages": long})
    assert refused.json()["error"]["code"] == "context_length_exceeded"  # 512, by max_model_len
    assert len(behind.asked) == 1


def test_health_follows_the_upstream(server: Ready, behind: Broken) -> None:
    health = server.url.replace("/v1", "/health")
    assert httpx2.get(health).status_code == 200
    fine = behind.health
    behind.health = answer(503)
    until(lambda: httpx2.get(health).status_code == 503)
    behind.health = fine
    until(lambda: httpx2.get(health).status_code == 200)
    behind.health = answer(404)  # it has no such path, but lists its models
    time.sleep(0.3)
    assert httpx2.get(health).status_code == 200


@pytest.mark.parametrize(
    ("models", "word"),
    [
        (answer(401, SECRET), "does not accept the key"),
        (answer(200, b"<html>"), "no server of OpenAI's protocol"),
        (answer(200, {"data": []}), "lists no model"),
        (answer(404), "no server of OpenAI's protocol"),
    ],
)
def test_no_upstream_to_begin_with(models: bytes, word: str) -> None:
    with broken_server() as state:
        state.models = models
        with pytest.raises(OpenChatError, match=word), background(front(state.url)):
            pass


class Processes:
    """`openchat serve` as processes."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "openchat_cli", "serve", *map(str, arguments), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        self.running.append(process)
        return process


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_two_processes_a_death_and_a_return(
    processes: Processes, folder: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("sk-behind\n")
    options = ("--model-path", folder, "--threads", 1, "--max-slots", 4)
    upstream = processes.start(*options, "--port", 0, OPENCHAT_API_KEYS="sk-behind")
    url = ready_line(upstream)["url"]
    proxy = processes.start(
        *("--upstream", url, "--upstream-key-file", key, "--model-path", folder, "--port", 0)
    )
    ours = ready_line(proxy)
    assert ours["model"] == "openchat"
    root = ours["url"].removesuffix("/v1")
    body = {"model": "openchat", "messages": [{"role": "user", "content": "Hello"}]}
    greedy = {**body, "temperature": 0, "max_tokens": 8}
    asked = [
        httpx2.post(one + "/chat/completions", json=greedy, headers=headers).json()["choices"]
        for one, headers in ((url, {"Authorization": "Bearer sk-behind"}), (ours["url"], {}))
    ]
    assert asked[0] == asked[1]
    long = {**body, "max_tokens": 2000, "stream": True, "logit_bias": {"368": -100}}
    killed = False
    with httpx2.stream("POST", ours["url"] + "/chat/completions", json=long, timeout=30) as got:
        lines = []
        for line in got.iter_lines():
            lines += [line] if line else []
            if len(lines) == 5 and not killed:
                killed = True
                upstream.kill()
    assert json.loads(lines[-1][6:])["error"]["code"] == "upstream_failed"
    after = httpx2.post(ours["url"] + "/chat/completions", json=greedy)
    assert (after.status_code, after.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert after.headers["retry-after"]
    assert httpx2.get(root + "/health").status_code == 503
    port = url.removesuffix("/v1").rpartition(":")[2]
    again = processes.start(*options, "--port", port, OPENCHAT_API_KEYS="sk-behind")
    ready_line(again)
    got_back = httpx2.post(ours["url"] + "/chat/completions", json=greedy)
    assert got_back.json()["choices"] == asked[1]
    assert httpx2.get(root + "/health").status_code == 200
    proxy.send_signal(signal.SIGTERM)
    out, err = proxy.communicate(timeout=20)
    assert (proxy.returncode, out) == (143, "")
    assert "sk-" not in err
    assert "Traceback" not in err


def test_it_waits_for_an_upstream_that_comes_later(processes: Processes) -> None:
    with broken_server() as state:
        state.models = answer(503)
        proxy = processes.start("--upstream", state.url, "--port", 0)
        assert proxy.stderr is not None
        assert "waiting for the upstream" in proxy.stderr.readline()
        threading.Timer(0.2, lambda: setattr(state, "models", answer(200, _MODELS))).start()
        assert ready_line(proxy)["model"] == "late"


_MODELS: dict[str, object] = {"data": [{"id": "late"}]}
