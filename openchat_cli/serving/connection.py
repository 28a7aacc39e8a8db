"""One connection: uvicorn's HTTP/1.1 protocol, made hard to hold or to fill.

Loaded only where a server starts, since it needs uvicorn.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from openchat_cli.serving.errors import ApiError

log = logging.getLogger("openchat.http")

# How much of the next, pipelined requests is read while one is answered. Reading has to go on, or
# a hang-up would not be seen before the answer is done.
_READ_AHEAD = 64 * 2**10
# A client that is gone without a word (a cable, a sleeping laptop) is noticed after about a minute.
_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Connection(H11Protocol):
    """Closes a connection whose headers dribble in or that takes nothing of its answer, refuses
    those past the limit, and says what is wrong with a malformed request as JSON.
    """

    header_seconds = 20.0  # from the first byte (or the connection) to the end of the headers
    stall_seconds = 60.0  # how long a client may take nothing while an answer waits for it
    max_connections = 2048

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = log
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        _keep_alive(transport.get_extra_info("socket"))
        if len(self.connections) > self.max_connections:
            self._refuse(ApiError(503, "Too many connections.", code="too_many_connections"))
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            self._stop_timers()
        elif self.conn.their_state is h11.IDLE:
            self._await_headers()  # of a request that has begun to arrive
        elif self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        if len(self.conn.trailing_data[0]) < _READ_AHEAD:
            self._read_on()

    def _read_on(self) -> None:
        # Only what pipelining paused: a body is paused until the application asks for more.
        if self.cycle is not None and not self.cycle.more_body:
            self.flow.resume_reading()

    def _await_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._header_timer = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            message = f"The request's headers took longer than {self.header_seconds:g} seconds."
            self._refuse(ApiError(408, message, code="request_timeout"))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self._stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _stalled(self) -> None:
        log.warning("a client took nothing for %g seconds: hung up", self.stall_seconds)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What h11 could not read is answered as every other error is."""
        if self.conn.our_state is not h11.IDLE and self.conn.our_state is not h11.SEND_RESPONSE:
            self.transport.close()  # in the middle of another answer
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its body is broken: nobody else may answer
            self.cycle.message_event.set()
        self._refuse(ApiError(400, msg, code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        body = json.dumps(error.body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=error.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._header_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._header_timer = self._stall_timer = None


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ALIVE:
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def connection_class(
    *, header_seconds: float, stall_seconds: float, max_connections: int
) -> type[Connection]:
    """The protocol with a server's own limits."""
    limits = {
        "header_seconds": header_seconds,
        "stall_seconds": stall_seconds,
        "max_connections": max_connections,
    }
    return type("LimitedConnection", (Connection,), limits)
