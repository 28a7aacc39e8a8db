"""Servers that answer as they should not, byte by byte, and remember what they were asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
MODELS = {"object": "list", "data": [{"id": "behind", "object": "model", "max_model_len": 512}]}


def answer(status: int, body: bytes | dict[str, object] = b"", *headers: str) -> bytes:
    """A whole response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", *headers]
    lines += [f"Content-Length: {len(data)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def event(text: str | None = None, reason: str | None = None) -> bytes:
    """One event of a text completion."""
    choice = {"index": 0, "text": text or "", "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@dataclass
class Broken:
    """Answers POST with `said`, a moment later `then`, and silence where `hold` is set."""

    url: str = ""
    said: bytes = b""
    then: bytes | None = None
    hold: bool = False
    health: bytes = answer(200)
    models: bytes = answer(200, MODELS)
    asked: list[bytes] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def broken_server() -> Iterator[Broken]:
    """One on a free port, while the block runs."""
    state = Broken()
    listener = socket.create_server(("127.0.0.1", 0))
    state.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_one, args=(state, peer), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield state
    finally:
        state.released.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _one(state: Broken, peer: socket.socket) -> None:
    with peer, contextlib.suppress(OSError):
        data = b""
        while b"\r\n\r\n" not in data:
            got = peer.recv(65536)
            if not got:
                return
            data += got
        head, _, body = data.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            peer.sendall(state.models if b"/models" in head else state.health)
            return
        size = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(body) < size:
            body += peer.recv(65536)
        state.asked.append(head + b"\r\n\r\n" + body)
        peer.sendall(state.said)
        if state.then is not None:
            time.sleep(0.1)
            peer.sendall(state.then)
        if state.hold:
            peer.settimeout(20)
            if peer.recv(1) == b"":  # the other side has hung up
                state.asked.append(b"gone")
