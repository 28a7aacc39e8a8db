"""Plain sockets, for requests that no HTTP client would send."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "openchat", "messages": [{"role": "user", "content": "Hello"}]}


def connect(url: str, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection to the server at a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(20)
    raw.connect((parts.hostname, parts.port))
    return raw


def request(
    body: bytes | dict[str, Any] | None = None,
    *,
    method: str = "POST",
    path: str = CHAT,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> bytes:
    """The bytes of a request; `length` says another Content-Length than is true."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
    said = {"Host": "x", "Content-Type": "application/json", **(headers or {})}
    if "Transfer-Encoding" not in said:
        said["Content-Length"] = str(len(data) if length is None else length)
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in said.items())
    return head.encode("latin-1") + b"\r\n" + data


def until_closed(raw: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts: list[bytes] = []
    try:
        while part := raw.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answer(url: str, sent: bytes) -> tuple[int, Any]:
    """Send bytes and read one answer: its status and JSON body."""
    with connect(url) as raw:
        raw.sendall(sent)
        return read_answer(raw)


def read_answer(raw: socket.socket) -> tuple[int, Any]:
    """One answer with a Content-Length."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = raw.recv(1)
        assert part, f"closed after {got!r}"
        got += part
    head = got.decode("latin-1").lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    body = b""
    while len(body) < length:
        part = raw.recv(length - len(body))
        assert part, "closed in the middle of a body"
        body += part
    return int(head.split()[1]), json.loads(body)


def until(condition: Callable[[], object], seconds: float = 10) -> float:
    """Wait for it; gives how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - began


def metrics(url: str, key: str | None = None) -> dict[str, float]:
    """/metrics by name, labels in it as they are written."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    page = httpx2.get(url.removesuffix("/v1") + "/metrics", headers=headers, timeout=30)
    assert page.status_code == 200
    lines = [line for line in page.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
