"""What happens around every request: its id and record, the checks before it, a net below it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from openchat_cli.serving.body import Refusal, in_time
from openchat_cli.serving.errors import RETRY_AFTER, ApiError, shutting_down
from openchat_cli.serving.keys import Keys
from openchat_cli.serving.record import CURRENT, Record, request_id
from openchat_cli.serving.settings import is_loopback
from openchat_cli.serving.watch import Watch

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from openchat_cli.serving.service import Service

log = logging.getLogger("openchat.access")
faults = logging.getLogger("openchat.fault")

_OPEN_PATHS = ("/", "/health")  # the page holds nothing; it asks with the key typed into it


def stack(service: Service) -> Sequence[Middleware]:
    """Everything around the routes, outermost first."""
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware

    settings = service.settings
    around = [Middleware(Recorder, watch=service.watch, show_content=settings.log_content)]
    if settings.cors_origins:
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["X-Request-Id", "Retry-After"],
            )
        )
    keys = Keys(settings.api_keys)
    if not keys and not settings.allow_unauthenticated and "*" not in settings.cors_origins:
        around.append(Middleware(OriginCheck, allowed=settings.cors_origins))
    around.append(Middleware(KeyCheck, keys=keys))
    around.append(Middleware(Doorkeeper, watch=service.watch, body_seconds=settings.body_seconds))
    return around


class Recorder:
    """Gives each request its id and record, and at its end one line of log and the metrics.

    The line never has what was said: no body, no query string, no headers; `show_content` adds
    prompts and answers. An error that nobody caught ends here, with a status and a log entry.
    """

    def __init__(self, app: ASGIApp, watch: Watch, show_content: bool) -> None:
        self._app = app
        self._watch = watch
        self._show_content = show_content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _record(scope)
        if self._show_content:
            record.prompts = []
        scope.setdefault("state", {}).update(record=record, counts=record.counts)
        token = CURRENT.set(record)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                _add_headers(message, record, draining=self._watch.draining)
            await send(message)

        self._watch.begins(record)
        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:  # the server waits no longer
            record.outcome = "cut"
            if record.status is None:
                await error_response(shutting_down())(scope, receive, sending)
        except Exception as error:
            await self._on_bug(error, record, scope, receive, sending)
        finally:
            CURRENT.reset(token)
            self._watch.ends(record)
            _write(record)

    async def _on_bug(
        self, error: Exception, record: Record, scope: Scope, receive: Receive, send: Send
    ) -> None:
        record.outcome, record.error = "failed", type(error).__name__
        _log_fault(error, record, show_content=self._show_content)
        if record.status is None:
            message = (
                "The server had an error while processing your request. "
                f"Please include the request ID {record.id} when you report it."
            )
            await error_response(ApiError(500, message))(scope, receive, send)
        # Else uvicorn closes the connection of an answer that was left in the middle.


def _record(scope: Scope) -> Record:
    client = scope.get("client")
    return Record(
        request_id(_header(scope, b"x-request-id")),
        scope["method"],
        scope["path"],
        client[0] if client else None,
    )


def _header(scope: Scope, name: bytes) -> bytes | None:
    found: bytes | None = dict(scope["headers"]).get(name)
    return found


def _add_headers(message: Message, record: Record, *, draining: bool) -> None:
    headers = [*message.get("headers", ()), (b"x-request-id", record.id.encode())]
    if draining and not any(name.lower() == b"connection" for name, _ in headers):
        headers.append((b"connection", b"close"))
    message["headers"] = headers


def _write(record: Record) -> None:
    """The line for people; its record goes along for logs that machines read."""
    total = time.perf_counter() - record.began
    path = record.path.encode("unicode_escape").decode()
    tokens = "".join(f" {name}={count}" for name, count in record.counts.items())
    said = ""
    if record.prompts:
        said = " " + json.dumps({"prompts": record.prompts, "answers": record.answers})
    log.info(
        "%s %s %s %.3fs%s%s %s%s",
        record.method,
        path,
        record.status or "-",
        total,
        tokens,
        "" if record.outcome == "ok" else f" {record.outcome}",
        record.id,
        said,
        extra={"entry": record.line(total)},
    )


def _log_fault(error: Exception, record: Record, *, show_content: bool) -> None:
    """Where it happened and of what kind; the error's own words may quote a prompt."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    words = f": {error}" if show_content else ""
    faults.error("a bug: %s%s in %s\n%s", type(error).__name__, words, record.id, frames)


class OriginCheck:
    """Answers 403 to web pages of other origins, where there are no keys to keep them out.

    A page of some site can reach this machine's ports from the visitor's browser, even as if it
    were of the same origin (DNS rebinding). Browsers then name the page's site in `Origin`; an
    address in it can't be rebound, a name can. Programs send no `Origin`.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            origin = _header(scope, b"origin")
            if origin is not None and not self._may(origin.decode("latin-1"), scope):
                message = (
                    "Requests from web pages of another origin are refused; see --cors-origin."
                )
                error = ApiError(403, message, code="origin_not_allowed")
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _may(self, origin: str, scope: Scope) -> bool:
        if origin in self._allowed:
            return True
        host = (_header(scope, b"host") or b"").decode("latin-1")
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        return parts.netloc.lower() == host.lower() and (is_loopback(name) or _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class KeyCheck:
    """Answers 401 to a request without one of the keys."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._keys and scope["path"] not in _OPEN_PATHS:
            given = _header(scope, b"authorization") or b""
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


class Doorkeeper:
    """Answers 503 to new work once the server is stopping, and 408 where a body dribbles in."""

    def __init__(self, app: ASGIApp, watch: Watch, body_seconds: float) -> None:
        self._app = app
        self._watch = watch
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_two_lengths(scope):
            error = ApiError(400, "Both Content-Length and Transfer-Encoding.", code="invalid_http")
            error.headers["Connection"] = "close"
            await error_response(error)(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "POST":
            if self._watch.draining:
                error = shutting_down()
                error.headers["Retry-After"] = RETRY_AFTER
                await error_response(error)(scope, receive, send)
                return
            receive = in_time(receive, self._body_seconds)
        await self._app(scope, receive, send)


def _has_two_lengths(scope: Scope) -> bool:
    """Whether a proxy before this server may see another end of the body than it does."""
    names = {name for name, _ in scope["headers"]}
    return {b"content-length", b"transfer-encoding"} <= names


def error_response(error: ApiError) -> ASGIApp:
    """The response that carries an error."""
    from starlette.responses import JSONResponse

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        record = scope.get("state", {}).get("record")
        if record is not None and record.outcome is None:
            record.fails(error.status, error.kind)
        response: ASGIApp = JSONResponse(error.body(), error.status, error.headers)
        if error.status == 413:
            response = Refusal(error)
        await response(scope, receive, send)

    return respond
