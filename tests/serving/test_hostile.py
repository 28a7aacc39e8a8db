"""Requests that mean harm, or that come from broken clients: each gets its 4xx, nobody else any."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from tests.engine import tiny
from tests.serving.raw import (
    HELLO,
    answer,
    connect,
    metrics,
    read_answer,
    request,
    until,
    until_closed,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Ready]:
    engine = tiny.engine(tiny.llama(spread=0.02, context=512), slots=4, context=512)
    settings = ServeSettings(
        EngineSettings(Path("tiny")),
        port=0,
        max_tokens=4,
        max_body_bytes=100_000,
        header_seconds=1.0,
        body_seconds=1.0,
        max_connections=60,
    )
    with background(settings, load=lambda: engine) as ready:
        yield ready


@pytest.fixture(autouse=True)
def _still_well(server: Ready) -> Iterator[None]:
    yield
    got = httpx2.post(server.url + "/chat/completions", json=HELLO | {"max_tokens": 2})
    assert got.status_code == 200


MESSAGES = b'"model": "openchat", "messages": [{"role": "user", "content": "a"}]'
HUGE = 2**70
BAD: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "cut": b'{"model": "openchat", "messages": [',
    "two values": b"{} {}",
    "not an object": b"[1]",
    "null": b"null",
    "string": b'"hello"',
    "latin-1": '{"model": "é"}'.encode("latin-1"),
    "utf-16": '{"model": "openchat"}'.encode("utf-16"),
    "surrogate": b'{"model": "openchat", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "surrogate key": b"{" + MESSAGES + b', "\\udfff": 1}',
    "NaN": b"{" + MESSAGES + b', "temperature": NaN}',
    "Infinity": b"{" + MESSAGES + b', "temperature": Infinity}',
    "-Infinity": b"{" + MESSAGES + b', "presence_penalty": -Infinity}',
    "1e999": b"{" + MESSAGES + b', "temperature": 1e999}',
    "deep arrays": b'{"model": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep and open": b"[" * 90_000,
    "long number": b'{"seed": ' + b"9" * 5000 + b"}",
    "NUL": b"\x00",
    "control character": b"{" + MESSAGES + b', "user": "a\x01"}',
}
WRONG: dict[str, dict[str, Any]] = {
    "n huge": {"n": HUGE},
    "n many": {"n": 1_000_000},
    "n zero": {"n": 0},
    "n negative": {"n": -1},
    "n text": {"n": "2"},
    "n true": {"n": True},
    "n fraction": {"n": 1.5},
    "temperature text": {"temperature": "hot"},
    "temperature huge": {"temperature": HUGE},
    "top_p": {"top_p": -1},
    "max_tokens zero": {"max_tokens": 0},
    "messages text": {"messages": "hello"},
    "messages empty": {"messages": []},
    "message null": {"messages": [None]},
    "role number": {"messages": [{"role": 1, "content": "a"}]},
    "content number": {"messages": [{"role": "user", "content": 1}]},
    "content deep": {"messages": [{"role": "user", "content": [[]]}]},
    "model number": {"model": 1},
    "stream text": {"stream": "yes"},
    "stop numbers": {"stop": [1]},
    "stop many": {"stop": ["a", "b", "c", "d", "e"]},
    "logit_bias token": {"logit_bias": {str(HUGE): 1}},
    "logit_bias words": {"logit_bias": {"a": 1}},
    "logit_bias of another model": {"logit_bias": {"99999": 1}},
    "stop_token_ids": {"stop_token_ids": [HUGE]},
    "top_logprobs": {"logprobs": True, "top_logprobs": HUGE},
}


@pytest.mark.parametrize("name", BAD)
def test_bodies_that_are_no_request(server: Ready, name: str) -> None:
    status, body = answer(server.url, request(BAD[name]))
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("name", WRONG)
def test_values_of_the_wrong_kind(server: Ready, name: str) -> None:
    status, body = answer(server.url, request(HELLO | WRONG[name]))
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "more",
    [
        {"seed": HUGE},
        {"seed": -HUGE},
        {"max_tokens": HUGE},
        {"top_k": HUGE},
        {"user": "\x7f\u2028"},
    ],
)
def test_large_numbers_that_mean_something(server: Ready, more: dict[str, Any]) -> None:
    more = {"max_tokens": 3, "logit_bias": {"257": -100}} | more
    status, body = answer(server.url, request(HELLO | more))
    assert status == 200, body


def test_duplicate_keys_take_the_last(server: Ready) -> None:
    status, body = answer(server.url, request(b'{"model": "none", ' + MESSAGES + b"}"))
    assert (status, body["model"]) == (200, "openchat")


def test_a_prompt_over_the_context(server: Ready) -> None:
    long = HELLO | {"messages": [{"role": "user", "content": "a" * 600}]}
    status, body = answer(server.url, request(long))
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert "This model's maximum context length is 512 tokens." in body["error"]["message"]
    assert "Please reduce the length of the messages." in body["error"]["message"]


def test_another_content_type(server: Ready) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        status, body = answer(server.url, request(HELLO, headers={"Content-Type": kind}))
        assert (status, body["error"]["code"]) == (415, "unsupported_content_type")


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_over_the_limit(server: Ready, chunked: bool) -> None:
    """Without reading them into memory, and so that the client sees the answer."""
    before = metrics(server.url)["process_resident_memory_bytes"]

    def parts() -> Iterator[bytes]:
        yield b'{"a": "'
        for _ in range(320):
            yield b"x" * 100_000
        yield b'"}'

    size = 7 + 320 * 100_000 + 2
    headers = {"Content-Type": "application/json"}
    if not chunked:
        headers["Content-Length"] = str(size)
    got = httpx2.post(
        server.url + "/chat/completions", content=parts(), headers=headers, timeout=30
    )
    assert got.status_code == 413
    assert got.json()["error"]["code"] == "request_too_large"
    assert metrics(server.url)["process_resident_memory_bytes"] - before < 20e6


def test_a_body_that_says_it_is_huge_is_not_waited_for(server: Ready) -> None:
    status, _ = answer(server.url, request(b"{", length=10**15))
    assert status == 413


MALFORMED: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "two lengths": request(b"abc", length=3, headers={"content-length": "4"}),
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "bad chunk": request(headers={"Transfer-Encoding": "chunked"}) + b"zz\r\nabc\r\n",
    "length and chunks": request(headers={"Transfer-Encoding": "chunked", "Content-Length": "3"}),
    "header without end": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000,
    "bare line feed in a name": b"GET / HTTP/1.1\r\nHost: x\r\nA\nB: c\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http(server: Ready, name: str) -> None:
    with connect(server.url) as raw:
        raw.sendall(MALFORMED[name])
        got = until_closed(raw)
    assert got.startswith(b"HTTP/1.1 400"), got
    assert b'"invalid_request_error"' in got


def test_slow_headers_and_silence_end(server: Ready) -> None:
    with connect(server.url) as silent, connect(server.url) as dribbling:
        dribbling.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):
            for number in range(100):
                dribbling.sendall(f"X-{number}: a\r\n".encode())
                time.sleep(0.05)
        assert time.monotonic() - began < 3
        assert until_closed(silent) == b""


def test_slow_headers_of_a_second_request_end(server: Ready) -> None:
    with connect(server.url) as raw:
        raw.sendall(request(method="GET", path="/health"))
        assert read_answer(raw)[0] == 200
        raw.sendall(b"GET /health HT")
        assert until_closed(raw).startswith(b"HTTP/1.1 408")


def test_a_slow_body_ends(server: Ready) -> None:
    with connect(server.url) as raw:
        raw.sendall(request(b'{"model": ', length=1000))
        began = time.monotonic()
        status, body = read_answer(raw)
        assert (status, body["error"]["code"]) == (408, "request_timeout")
        assert 0.5 < time.monotonic() - began < 3
        assert until_closed(raw) == b""


def test_pipelined_requests_are_answered_in_order(server: Ready) -> None:
    asked = [request(HELLO | {"max_tokens": count}) for count in (3, 1, 2)]
    with connect(server.url) as raw:
        raw.sendall(b"".join(asked))
        found = [read_answer(raw)[1]["usage"]["completion_tokens"] for _ in asked]
    assert found == [3, 1, 2]


def test_expect_continue(server: Ready) -> None:
    body = json.dumps(HELLO).encode()
    with connect(server.url) as raw:
        raw.sendall(request(b"", length=len(body), headers={"Expect": "100-continue"}))
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(body)
        assert read_answer(raw)[0] == 200


def test_past_the_limit_of_connections_is_503(server: Ready) -> None:
    held = [connect(server.url) for _ in range(60)]
    try:
        with connect(server.url) as raw:
            got = until_closed(raw)
        assert got.startswith(b"HTTP/1.1 503")
        assert b"too_many_connections" in got
    finally:
        for raw in held:
            raw.close()
    until(lambda: answer(server.url, request(HELLO))[0] == 200)


def test_random_bytes_never_give_500(server: Ready) -> None:
    rng = random.Random(4)
    good = request(HELLO | {"max_tokens": 1})
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with connect(server.url) as raw:
            raw.sendall(bytes(data))
            raw.shutdown(socket.SHUT_WR)
            got = until_closed(raw)
        assert not got.startswith(b"HTTP/1.1 5"), (bytes(data), got)


def test_unknown_paths_and_methods(server: Ready) -> None:
    for path in ("/nothing", "//", "/v1/chat/completions/", "/%00", "/%ff", "/v1/models/%0a"):
        status, body = answer(server.url, request(method="GET", path=path))
        assert (status, body["error"]["type"]) == (404, "invalid_request_error"), path
    assert answer(server.url, request(method="DELETE"))[0] == 405
    assert answer(server.url, request(method="GET"))[0] == 405
    page = httpx2.get(server.url.removesuffix("/v1") + "/metrics").text
    assert 'path="other"' in page
    assert "nothing" not in page


def test_a_slow_reader_holds_back_nobody(server: Ready) -> None:
    """It gets its whole answer in its own time; its slot is free long before."""
    slow = HELLO | {
        "stream": True,
        "n": 2,
        "max_tokens": 150,
        "logit_bias": {"65": 100},
        "logprobs": True,
        "top_logprobs": 20,
    }
    with connect(server.url, receive_buffer=4096) as raw:
        raw.sendall(request(slow))
        raw.recv(10)
        until(lambda: metrics(server.url)["openchat_slots_running"] == 0, 60)
        began = time.monotonic()
        assert answer(server.url, request(HELLO))[0] == 200
        assert time.monotonic() - began < 2
        got = b""
        while b"[DONE]" not in got:
            got = got[-100:] + raw.recv(65536)


def test_many_wrong_requests_at_once_leave_the_others_alone(server: Ready) -> None:
    rng = random.Random(0)
    found: list[int] = []

    def wrong(seed: int) -> None:
        own = random.Random(seed)
        for _ in range(15):
            body = own.choice(
                [*BAD.values(), *(json.dumps(HELLO | w).encode() for w in WRONG.values())]
            )
            found.append(answer(server.url, request(body))[0])

    threads = [threading.Thread(target=wrong, args=[rng.random()]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        status, body = answer(
            server.url, request(HELLO | {"max_tokens": 3, "logit_bias": {"65": 100}})
        )
        assert (status, body["choices"][0]["message"]["content"]) == (200, "AAA")
    for thread in threads:
        thread.join()
    assert set(found) == {400}
