"""Hang-ups, full queues, crashes, keys: what happens when it does not go well."""

from __future__ import annotations

import json
import logging
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.engine.engine import Engine, Load
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from openchat_cli.serving.keys import Keys, read_key_file
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from tests.engine import tiny
from tests.serving.raw import connect, metrics, request, until

CHAT = "/chat/completions"
# "A" for ever: only a limit or a hang-up ends it.
LONG: dict[str, Any] = {
    "model": "openchat",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 1900,
    "logit_bias": {"65": 100},
}


class Slow:
    """Holds every forward pass for a moment, and breaks when told to."""

    def __init__(self, model: Any, seconds: float) -> None:
        self.seconds = seconds
        self.broken = False
        self._forward = model.base_model.forward
        model.base_model.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self.seconds)
        if self.broken and kwargs["input_ids"].shape[1] == 1:
            raise RuntimeError("device lost")
        return self._forward(*args, **kwargs)


@pytest.fixture
def model() -> Any:
    return tiny.llama(spread=0.02, context=2048)


@pytest.fixture
def slow(model: Any) -> Slow:
    return Slow(model, 0.01)


@pytest.fixture
def engine(model: Any, slow: Slow) -> Engine:
    return tiny.engine(model, slots=2, context=2048, queue_size=2)


@pytest.fixture
def server(engine: Engine) -> Iterator[Ready]:
    settings = ServeSettings(EngineSettings(Path("tiny")), port=0, shutdown_seconds=1)
    with background(settings, load=lambda: engine) as ready:
        yield ready


def hang_up_after(server: Ready, *, stream: bool, wait: Callable[[], object]) -> None:
    """Ask, wait, and close the connection without reading the answer."""
    host, port = server.url.removesuffix("/v1").removeprefix("http://").split(":")
    body = json.dumps({**LONG, "stream": stream}).encode()
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        wait()


@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_frees_the_slot(server: Ready, engine: Engine, stream: bool) -> None:
    def once() -> float:
        hang_up_after(
            server, stream=stream, wait=lambda: until(lambda: engine.load_now().answering == 1)
        )
        return until(lambda: engine.load_now().answering == 0)

    assert min(once() for _ in range(5)) < 0.1  # the best, since the machine has other work


def test_many_hang_ups_leave_nothing_behind(server: Ready, engine: Engine) -> None:
    def one(number: int) -> None:
        hang_up_after(server, stream=bool(number % 2), wait=lambda: time.sleep(number % 7 / 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    until(lambda: (load := engine.load_now()).answering == load.waiting == 0)
    assert httpx2.post(server.url + CHAT, json={**LONG, "max_tokens": 2}).status_code == 200


def test_a_hang_up_is_seen_although_more_was_sent(server: Ready, engine: Engine) -> None:
    """A pipelined second request must not keep the connection from being read."""
    with connect(server.url) as raw:
        raw.sendall(request(LONG) + request(LONG))
        until(lambda: engine.load_now().answering == 1)
    assert until(lambda: engine.load_now() == Load(answering=0, waiting=0)) < 2


@pytest.mark.slow
def test_a_thousand_hang_ups_leak_nothing(server: Ready, engine: Engine) -> None:
    """At any moment: in the headers, in the body, in the line, in the middle of the answer."""

    def one(number: int) -> None:
        rng = random.Random(number)
        whole = request({**LONG, "stream": rng.random() < 0.5, "n": rng.choice([1, 1, 2])})
        cut = len(whole) if rng.random() < 0.7 else rng.randrange(len(whole))
        with connect(server.url) as raw:
            raw.sendall(whole[:cut])
            time.sleep(rng.choice([0, 0, 0.005, 0.03]))
            if rng.random() < 0.3:  # a reset, not an end
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def held() -> dict[str, float]:
        found = metrics(server.url)
        names = ("tasks", "slots_running", "queue_depth", "open_requests")
        return {name: found[f"openchat_{name}"] for name in names} | {
            "files": found["process_open_fds"]
        }

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(100)))
        until(lambda: held()["slots_running"] == held()["queue_depth"] == 0)
        before, memory = held(), metrics(server.url)["process_resident_memory_bytes"]
        list(pool.map(one, range(100, 1100)))
        until(lambda: held() == before, 30)
    assert metrics(server.url)["process_resident_memory_bytes"] - memory < 30e6
    assert httpx2.post(server.url + CHAT, json={**LONG, "max_tokens": 2}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("waiting", [True, False])
def test_a_request_that_takes_too_long(
    slow: Slow, engine: Engine, stream: bool, waiting: bool
) -> None:
    settings = ServeSettings(EngineSettings(Path("tiny")), port=0, request_timeout=0.3)
    with background(settings, load=lambda: engine) as ready:
        forever = SamplingParams(max_tokens=1900, logit_bias={65: 100})
        others = [engine.submit([1], forever) for _ in range(2)] if waiting else []
        got = httpx2.post(ready.url + CHAT, json=LONG | {"stream": stream}, timeout=20)
        for generation in others:
            generation.cancel()
        until(lambda: engine.load_now() == Load(answering=0, waiting=0))
        assert metrics(ready.url)['openchat_outcomes_total{outcome="timeout"}'] == 1
    error = json.loads(got.text.rpartition("data: ")[2])["error"]
    assert error["code"] == "request_timeout"
    assert ("Please try again later" in error["message"]) is waiting
    if not stream:
        assert got.status_code == (503 if waiting else 504)
        assert ("retry-after" in got.headers) is waiting


def test_past_the_queue_limit_is_429(server: Ready, engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool, httpx2.Client(timeout=30) as http:
        asked = [
            pool.submit(http.post, server.url + CHAT, json=LONG | {"max_tokens": 60})
            for _ in range(4)
        ]
        until(lambda: engine.load_now() == Load(answering=2, waiting=2))
        refused = httpx2.post(server.url + CHAT, json=LONG)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "Rate limit" in refused.json()["error"]["message"]
        several = httpx2.post(server.url + CHAT, json=LONG | {"n": 3})
        assert several.status_code == 429
        assert [job.result().status_code for job in asked] == [200] * 4


def test_a_crash_tells_everyone_and_ends_the_server(slow: Slow, engine: Engine) -> None:
    settings = ServeSettings(EngineSettings(Path("tiny")), port=0, shutdown_seconds=1)
    found: dict[str, Any] = {}

    def stream(url: str) -> None:
        with httpx2.stream("POST", url + CHAT, json=LONG | {"stream": True}) as got:
            lines = []
            for line in got.iter_lines():
                lines.append(line)
                started.set()
            found["stream"] = [line for line in lines if line][-1]

    def whole(url: str) -> None:
        found["whole"] = httpx2.post(url + CHAT, json=LONG)

    started = threading.Event()
    with background(settings, load=lambda: engine) as ready:
        threads = [threading.Thread(target=work, args=[ready.url]) for work in (stream, whole)]
        for thread in threads:
            thread.start()
        assert started.wait(10)
        until(lambda: engine.load_now().answering == 2)
        slow.broken = True
        for thread in threads:
            thread.join(10)
        assert (
            "device lost" in json.loads(found["stream"].removeprefix("data: "))["error"]["message"]
        )
        assert found["whole"].status_code == 500
        assert found["whole"].json()["error"]["code"] == "generation_failed"
        assert engine.failure is not None


def test_health_is_503_until_the_model_is_there(engine: Engine) -> None:
    loaded = threading.Event()
    seen: list[int] = []

    def load() -> Engine:
        assert loaded.wait(10)
        return engine

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ServeSettings(EngineSettings(Path("tiny")), port=port)

    def ask() -> None:
        root = f"http://127.0.0.1:{port}"
        try:
            while not seen:
                try:
                    seen.append(httpx2.get(root + "/health").status_code)
                except httpx2.ConnectError:
                    time.sleep(0.01)
            seen.append(httpx2.post(root + "/v1" + CHAT, json=LONG).status_code)
        finally:
            loaded.set()

    asking = threading.Thread(target=ask)
    asking.start()
    with background(settings, load=load) as ready:
        asking.join()
        root = ready.url.removesuffix("/v1")
        assert [*seen, httpx2.get(root + "/health").status_code] == [503, 503, 200]


def test_a_model_that_can_not_be_loaded_ends_the_server() -> None:
    def load() -> Engine:
        raise InputError("model: not a model")

    settings = ServeSettings(EngineSettings(Path("model")), port=0)
    with pytest.raises(InputError, match="not a model"), background(settings, load=load):
        pass


def test_a_taken_port_is_one_clear_error(server: Ready, engine: Engine) -> None:
    port = int(server.url.removesuffix("/v1").rpartition(":")[2])
    settings = ServeSettings(EngineSettings(Path("tiny")), port=port)
    with pytest.raises(OpenChatError, match="can't listen"), background(settings):
        pass


def test_keys_are_asked_for(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    settings = ServeSettings(
        EngineSettings(Path("tiny")), port=0, api_keys=("sk-first", "sk-second")
    )
    assert "sk-first" not in repr(settings)
    caplog.set_level(logging.DEBUG)
    with background(settings, load=lambda: engine) as ready, httpx2.Client() as http:
        body = LONG | {"max_tokens": 2}
        for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "sk-first"}):
            got = http.post(ready.url + CHAT, json=body, headers=headers)
            assert got.status_code == 401
            assert got.json()["error"]["code"] == "invalid_api_key"
        assert http.get(ready.url + "/models").status_code == 401
        assert http.get(ready.url.removesuffix("/v1") + "/health").status_code == 200
        for key in ("sk-first", "sk-second"):
            headers = {"Authorization": f"Bearer {key}"}
            assert http.post(ready.url + CHAT, json=body, headers=headers).status_code == 200
    assert "sk-" not in caplog.text


def test_the_log_has_counts_and_no_words(server: Ready, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="openchat")
    secret = [{"role": "user", "content": "my secret"}]
    got = httpx2.post(server.url + CHAT, json=LONG | {"messages": secret, "max_tokens": 3})
    text = got.json()["choices"][0]["message"]["content"]
    until(lambda: "/v1/chat/completions 200" in caplog.text)
    # BOS, "U:", the nine bytes, EOT, "A:"
    assert "prompt=15 completion=3" in caplog.text
    assert "secret" not in caplog.text
    assert text not in caplog.text


def test_a_public_address_needs_keys() -> None:
    engine = EngineSettings(Path("tiny"))
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(UsageError, match="API keys"):
            ServeSettings(engine, host=host)
        ServeSettings(engine, host=host, api_keys=("k",))
        ServeSettings(engine, host=host, allow_unauthenticated=True)
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        ServeSettings(engine, host=host)


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\ufeff# ours\nsk-one\n\n  sk-two \n  # old\n", "utf-8")
    assert read_key_file(file) == ("sk-one", "sk-two")
    keys = Keys(read_key_file(file))
    assert keys.allow(b"Bearer sk-two")
    assert not keys.allow(b"Bearer # ours")
    assert not keys.allow(b"")
    file.write_text("\n")
    with pytest.raises(InputError, match="no key"):
        read_key_file(file)
    with pytest.raises(InputError, match="can't be read"):
        read_key_file(tmp_path / "none")
