"""The connections to an upstream: asking, refusals, what is lost on the way, its health."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from openchat_cli.serving import upstream_errors as errors
from openchat_cli.serving.errors import ApiError
from openchat_cli.serving.settings import is_loopback
from openchat_cli.serving.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("openchat.upstream")

# Servers close idle connections after 5 seconds or more: let go of them before.
_IDLE_SECONDS = 4.0
_WARN_SECONDS = 10.0  # between lines in the log about the same trouble
_MAX_ERROR_BYTES = 2**16


class UpstreamClient:
    """Used as an asynchronous context manager, in the loop that asks."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.trouble: str | None = None  # why the upstream can't be asked just now
        self._settings = settings
        self._client = _client(settings)
        self._warned = -_WARN_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def opened(self, path: str, body: dict[str, Any]) -> AsyncIterator[httpx2.Response]:
        """The upstream's 200, to be read while the block runs; ApiError for anything else, also for
        what goes wrong in the block.
        """
        import httpx2

        try:
            response = await self._send(path, body)
        except httpx2.HTTPError as error:
            raise self._lost(error) from None
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            yield response
        except httpx2.HTTPError as error:
            raise self._lost(error) from None
        finally:
            await response.aclose()

    async def _send(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        import httpx2

        for attempt in (1, 2):
            sending = self._client.build_request("POST", self._settings.base + path, json=body)
            try:
                return await self._client.send(sending, stream=True)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                # Most likely a kept connection that the upstream has closed meanwhile: nothing was
                # answered, so asking once more is safe.
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def _refusal(self, response: httpx2.Response) -> ApiError:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
        status = response.status_code
        if status not in (400, 413, 422):
            self.warn(f"it answers {status}")
        return errors.refused(status, response.headers, body)

    def _lost(self, error: httpx2.HTTPError) -> ApiError:
        import httpx2

        self.warn(type(error).__name__)
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            self.trouble = "it can't be reached"
            return errors.unreachable()
        if isinstance(error, httpx2.TimeoutException):
            return errors.timed_out()
        return errors.broken("the connection was lost")

    async def look(self) -> None:
        """Learn whether the upstream is well: sets `trouble`."""
        before, self.trouble = self.trouble, await self._found()
        if self.trouble is not None:
            self.warn(self.trouble)
        elif before is not None:
            log.info("the upstream %s: well again", self._settings.base)

    async def _found(self) -> str | None:
        import httpx2

        root = self._settings.base.removesuffix("/v1")
        timeout = httpx2.Timeout(10.0)
        try:
            got = await self._client.get(root + "/health", timeout=timeout)
            if got.status_code in (401, 403, 404, 405):  # it has none that we may see
                got = await self._client.get(self._settings.base + "/models", timeout=timeout)
        except httpx2.HTTPError:
            return "it can't be reached"
        return f"it answers {got.status_code}" if got.status_code >= 400 else None

    def warn(self, reason: str) -> None:
        """A line in the log, though not for every request while something lasts."""
        now = time.monotonic()
        if now - self._warned >= _WARN_SECONDS:
            self._warned = now
            log.warning("the upstream %s: %s", self._settings.base, reason)


def _client(settings: UpstreamSettings) -> httpx2.AsyncClient:
    import httpx2

    return httpx2.AsyncClient(
        headers=headers(settings),
        timeout=httpx2.Timeout(settings.timeout, connect=settings.connect_timeout, pool=None),
        limits=httpx2.Limits(max_connections=None, keepalive_expiry=_IDLE_SECONDS),
        # A proxy of the environment must not come between this server and one beside it.
        trust_env=not is_loopback(settings.host),
    )


def headers(settings: UpstreamSettings) -> dict[str, str]:
    """What every request to the upstream carries: its own key, never a client's."""
    return {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
