"""A small server in the place of ours, for what no tiny model would say or do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openchat_cli.serving import page
from openchat_cli.serving.settings import ServeSettings

Body = dict[str, Any]
# What is sent for a request: texts of the answer, whole events, None to hang up.
Script = Callable[[Body], Iterable[str | Body | None]]


class StandIn:
    """Serves the chat page, and answers as `script` says; `asked` and `headers` record requests."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.script: Script = lambda body: ["Hello", " there."]
        self.refuse: tuple[int, str] | None = None  # status and message for every request
        self.key: str | None = None
        self.loading = False
        self.asked: list[Body] = []
        self.keys: list[str] = []
        self.origins: list[str] = []
        self.hung_up = threading.Event()
        self.url = ""


@contextmanager
def stand_in(settings: ServeSettings, port: int = 0) -> Iterator[StandIn]:
    """A running stand-in."""
    state = StandIn(settings)

    class Handler(_Handler):
        stand = state

    server = _Server(("127.0.0.1", port), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None: ...  # a client that hung up


class _Handler(BaseHTTPRequestHandler):
    stand: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/":
            data = page.chat_page(self.stand.settings).encode()
            self._send(200, data, {**page.headers(), "Content-Type": "text/html; charset=utf-8"})
        elif self.path == "/health":
            loading = self.stand.loading
            state = {"status": "loading", "stage": "weights", "done": 3, "total": 4}
            self._json(*((503, state) if loading else (200, {"status": "ok"})))
        elif self.path == "/v1/models" and self._may():
            self._json(200, {"object": "list", "data": [{"id": "stand-in", "object": "model"}]})
        elif self.path != "/v1/models":
            self._json(404, {"error": {"message": f"Unknown: {self.path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.stand.asked.append(body)
        self.stand.origins.append(self.headers.get("Origin", ""))
        if not self._may():
            return
        if self.stand.refuse is not None:
            status, message = self.stand.refuse
            self._json(status, {"error": {"message": message, "code": None}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(self.stand.script(body))
        except OSError:
            self.stand.hung_up.set()

    def _stream(self, steps: Iterable[str | Body | None]) -> None:
        count = 0
        for step in steps:
            if step is None:
                return
            if isinstance(step, str):
                count += 1
                step = chunk(step)
            self._event(json.dumps(step))
        self._event(json.dumps(chunk("", "stop")))
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        self._event(json.dumps({**chunk(""), "choices": [], "usage": usage}))
        self._event("[DONE]")

    def _event(self, text: str) -> None:
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def _may(self) -> bool:
        given = self.headers.get("Authorization", "")
        self.stand.keys.append(given)
        if self.stand.key is None or given == f"Bearer {self.stand.key}":
            return True
        self._json(401, {"error": {"message": "Incorrect API key provided.", "code": "x"}})
        return False

    def _json(self, status: int, body: Body) -> None:
        self._send(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def chunk(text: str, finish: str | None = None) -> Body:
    """One chunk of a streamed answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
    return {**head, "model": "stand-in", "choices": [choice]}


def slowly(text: str, *, size: int = 4, seconds: float = 0.02) -> Script:
    """A script that says `text` in pieces, with a pause after each."""

    def script(body: Body) -> Iterator[str]:
        for at in range(0, len(text), size):
            yield text[at : at + size]
            time.sleep(seconds)

    return script
