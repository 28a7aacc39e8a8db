"""Reading a request's body within its limits of size and time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

from openchat_cli.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

# What is still read of a body that was refused. Closing at once would reset the connection, and the
# client, still sending, would see that in place of the answer.
_LINGER_BYTES = 64 * 2**20
_LINGER_SECONDS = 10.0


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a JSON request; ApiError 415 for another content type, 413 over `limit` bytes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Also a defence: a web page can't send this type to another origin unasked.
        message = f"Unsupported content type '{kind}': send the body as 'application/json'."
        raise ApiError(415, message, code="unsupported_content_type")
    if int(request.headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> ApiError:
    message = f"The request body is larger than the limit of {limit} bytes."
    return ApiError(413, message, code="request_too_large")


def in_time(receive: Receive, seconds: float) -> Receive:
    """`receive`, with ApiError 408 where the body is not whole after so many seconds."""
    deadline = time.monotonic() + seconds
    whole = False

    async def timed() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            text = f"The request's body took longer than {seconds:g} seconds."
            headers = {"Connection": "close"}
            raise ApiError(408, text, code="request_timeout", headers=headers) from None
        whole = not message.get("more_body", False)
        return message

    return timed


class Refusal:
    """The answer to a body that is too large: said at once, while what still comes is dropped."""

    def __init__(self, error: ApiError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = json.dumps(self._error.body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        start = {"type": "http.response.start", "status": self._error.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if not any(name == b"expect" for name, _ in scope["headers"]):  # it waits for our word
            with contextlib.suppress(TimeoutError, ApiError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    await _drop(receive)
        await send({"type": "http.response.body", "body": b""})


async def _drop(receive: Receive) -> None:
    size = 0
    while size < _LINGER_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
