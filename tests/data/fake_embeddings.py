"""An OpenAI-compatible embeddings server over a real socket that answers in every allowed shape,
and fails in every way.

The vector of a text follows from the text alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np

DIMS = 16


def vector(text: str, dims: int = DIMS) -> list[float]:
    """What the server says of a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    found: list[float] = np.random.default_rng(seed).normal(size=dims).astype(np.float32).tolist()
    return found


class FakeEmbeddings:
    """The server; `seen` are the texts of each request, `statuses` what was answered."""

    def __init__(
        self,
        *,
        form: str = "float",  # or base64
        shuffle: bool = False,
        latency: float = 0.0,
        too_many: int = 0,  # requests answered by 429 first
        broken: int = 0,  # requests answered by 500 after those
        most_texts: int | None = None,  # in one request; 400 for more
        most_chars: int | None = None,  # of one text; 400 for more
        poison: str | None = None,  # 400 for texts that hold this
        refuse_all: bool = False,
        wrong: str | None = None,  # count, dims, later dims, nan, shape
        key: str | None = None,
    ) -> None:
        self.form, self.shuffle, self.latency = form, shuffle, latency
        self.too_many, self.broken = too_many, broken
        self.most_texts, self.most_chars, self.poison = most_texts, most_chars, poison
        self.refuse_all, self.wrong, self.key = refuse_all, wrong, key
        self.seen: list[list[str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.answered: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        texts = body["input"]
        with self.lock:
            number = len(self.seen)
            self.seen.append(list(texts))
            self.bodies.append(body)
        if number < self.too_many:
            return 429, _error("Rate limit reached"), {"retry-after-ms": "100"}
        if number < self.too_many + self.broken:
            return 500, _error("the server broke"), {}
        if self.refuse_all:
            return 400, _error("this model makes no embeddings"), {}
        if self.most_texts is not None and len(texts) > self.most_texts:
            return 400, _error("the batch is too large"), {}
        if self.most_chars is not None and max(map(len, texts)) > self.most_chars:
            return 400, _error("maximum context length exceeded"), {}
        if self.poison is not None and any(self.poison in text for text in texts):
            return 400, _error("the input was rejected"), {}
        time.sleep(self.latency)
        return 200, self._vectors(texts, body.get("dimensions", DIMS)), {}

    def _vectors(self, texts: list[str], dims: int) -> dict[str, Any]:
        data: list[dict[str, Any]] = []
        if self.wrong == "later dims" and self.statuses[200] > 1:
            dims -= 1
        for index, text in enumerate(texts):
            found = vector(text, dims - (index if self.wrong == "dims" else 0))
            if self.wrong == "nan":
                found[0] = float("nan")
            shown: Any = found
            if self.form == "base64":
                shown = base64.b64encode(np.asarray(found, "<f4").tobytes()).decode()
            if self.wrong == "shape":
                shown = {"values": found}
            data.append({"object": "embedding", "index": index, "embedding": shown})
        if self.shuffle:
            data.reverse()
        if self.wrong == "count" and len(data) > 1:
            data = data[:-1]
        with self.lock:
            self.answered.update(texts)
        tokens = sum(len(text) for text in texts) // 4
        return {"object": "list", "data": data, "usage": {"prompt_tokens": tokens}}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeEmbeddings

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is part of the plan."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        fake = self.server.fake
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        status, value, headers = 404, _error("no such path"), {}
        if fake.key is not None and self.headers["Authorization"] != f"Bearer {fake.key}":
            status, value = 401, _error("Incorrect API key provided")
        elif self.path == "/v1/embeddings":
            status, value, headers = fake.reply(json.loads(raw))
        with fake.lock:
            fake.statuses[status] += 1
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
