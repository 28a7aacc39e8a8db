"""Taking in the body of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_cli.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

# A body over the limit is still read up to this, or the client would see a broken connection in
# place of the answer.
_DRAIN_BYTES = 64 * 2**20


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a JSON request; ApiError 415 for another content type, 413 over `limit`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Also a defence: a web page can't send this type to another origin unasked.
        message = f"Unsupported content type '{kind}': send the body as 'application/json'."
        raise ApiError(415, message, code="unsupported_content_type")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > max(limit, _DRAIN_BYTES):
            break
    if size > limit:
        message = f"The request body is larger than the limit of {limit} bytes."
        raise ApiError(413, message, code="request_too_large")
    return b"".join(parts)
