"""The endpoints that need no generation: token ids, the version, the description of all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openchat_cli
from openchat_cli.core.errors import InputError
from openchat_cli.serving import fields, kinds, openapi, tokenise
from openchat_cli.serving.body import read_body
from openchat_cli.serving.errors import from_engine
from openchat_cli.serving.kinds import Table
from openchat_cli.serving.service import Service
from openchat_cli.serving.tables import Served

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from openchat_cli.serving.backend import Backend

    Work = Callable[[Backend, dict[str, Any]], dict[str, Any]]


class PlainRoutes:
    """These endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def tokenize(self, request: Request) -> Response:
        """Text or messages to token ids."""
        return await self._in_thread(request, tokenise.tokenize_table, tokenise.tokenize)

    async def detokenize(self, request: Request) -> Response:
        """Token ids to text."""
        return await self._in_thread(request, tokenise.detokenize_table, tokenise.detokenize)

    async def _in_thread(
        self, request: Request, table: Callable[[Served], Table], work: Work
    ) -> Response:
        from starlette.responses import JSONResponse

        data = await read_body(request, self._service.settings.max_body_bytes)
        found = kinds.read(fields.parse_object(data), table(self._service.served))
        if "model" in found:
            self._service.check_model(found["model"])
        tokenise.check(self._service.bridge.engine)
        try:
            answer = await asyncio.to_thread(work, self._service.bridge.engine, found)
        except InputError as error:
            raise from_engine(error, "prompt" if "prompt" in found else "messages") from None
        return JSONResponse(answer)

    async def tokenizer_info(self, request: Request) -> Response:
        """What the tokeniser is."""
        from starlette.responses import JSONResponse

        engine = self._service.bridge.engine
        return JSONResponse(await asyncio.to_thread(tokenise.tokenizer_info, engine))

    async def version(self, request: Request) -> Response:
        """This program's."""
        from starlette.responses import JSONResponse

        return JSONResponse({"version": openchat_cli.__version__})

    async def openapi(self, request: Request) -> Response:
        """The description of every endpoint of this server."""
        from starlette.responses import JSONResponse

        paths = [route.path for route in request.app.routes]
        return JSONResponse(openapi.describe(self._service.served, paths))
