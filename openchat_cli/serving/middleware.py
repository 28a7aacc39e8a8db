"""What happens around every request: its id, the key check, one line in the log."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING

from openchat_cli.serving.errors import ApiError, shutting_down
from openchat_cli.serving.keys import Keys

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("openchat.access")

_OPEN_PATHS = ("/", "/health")  # the page holds nothing; it asks with the key typed into it


class KeyCheck:
    """Answers 401 to a request without one of the keys."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._keys and scope["path"] not in _OPEN_PATHS:
            headers = dict(scope["headers"])
            given = headers.get(b"authorization", b"").decode("latin-1")
            if not self._keys.allow(given):
                await error_response(_no_key(bool(given)))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _no_key(given: bool) -> ApiError:
    message = (
        "Incorrect API key provided."
        if given
        else "You didn't provide an API key: send it as 'Authorization: Bearer KEY'."
    )
    headers = {"WWW-Authenticate": "Bearer"}
    return ApiError(401, message, code="invalid_api_key", headers=headers)


class AccessLog:
    """One line for each request: what was asked, how it ended, how long it took, how many tokens.

    Never what was said: no body, no query string, no headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = "req_" + uuid.uuid4().hex
        counts: dict[str, int] = {}
        scope.setdefault("state", {})["counts"] = counts
        status = 0  # stays 0 where the client hung up before an answer

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:  # uvicorn waits no longer; it would show a traceback
            if not status:
                await error_response(shutting_down())(scope, receive, sending)
        finally:
            path = scope["path"].encode("unicode_escape").decode()
            tokens = "".join(f" {name}={count}" for name, count in counts.items())
            seconds = time.perf_counter() - began
            log.info(
                "%s %s %d %.3fs%s %s", scope["method"], path, status, seconds, tokens, request_id
            )


def error_response(error: ApiError) -> ASGIApp:
    """The response that carries an error."""
    from starlette.responses import JSONResponse

    return JSONResponse(error.body(), error.status, error.headers)
