"""The HTTP application: routes, bodies, streams, hang-ups."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.engine.generation import Completion
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving import fields, protocol, replies, tables
from openchat_cli.serving.body import read_body
from openchat_cli.serving.bridge import Answers, ClientGoneError
from openchat_cli.serving.choices import Choice
from openchat_cli.serving.errors import ApiError, failure_of, from_engine, shutting_down
from openchat_cli.serving.messages import for_type
from openchat_cli.serving.metrics import CONTENT_TYPE
from openchat_cli.serving.middleware import error_response, stack
from openchat_cli.serving.plain_routes import PlainRoutes
from openchat_cli.serving.replies import Reply
from openchat_cli.serving.service import Service
from openchat_cli.serving.unknown import explained
from openchat_cli.serving.upstream import UpstreamEngine
from openchat_cli.serving.upstream_choices import (
    UpstreamChoice,
    chat_prompt,
    choice_of,
    plain_prompts,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send


AnyChoice = Choice | UpstreamChoice

_LARGE = 2**16  # bytes of a body that takes a while to parse


def create_app(service: Service) -> Starlette:
    """The application that serves `service`."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.routing import Route

    routes = Routes(service)
    plain = PlainRoutes(service)
    app = Starlette(
        routes=[
            Route("/", routes.page),
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/v1/models", routes.models),
            Route("/v1/models/{model:path}", routes.model),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.completions, methods=["POST"]),
            Route("/tokenize", plain.tokenize, methods=["POST"]),
            Route("/detokenize", plain.detokenize, methods=["POST"]),
            Route("/tokenizer_info", plain.tokenizer_info),
            Route("/version", plain.version),
            Route("/openapi.json", plain.openapi),
        ],
        middleware=stack(service),
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_hang_up,  # in the middle of the body
        },
    )
    app.router.redirect_slashes = False
    return app


class Routes:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def page(self, request: Request) -> Response:
        """The chat page."""
        from starlette.responses import HTMLResponse

        from openchat_cli.serving import page

        return HTMLResponse(page.chat_page(self._service.settings), headers=page.headers())

    async def health(self, request: Request) -> Response:
        """200 when requests are answered, 503 while the model loads and after a crash."""
        from starlette.responses import JSONResponse

        status, body = self._service.health()
        return JSONResponse(body, status)

    async def metrics(self, request: Request) -> Response:
        """The server's numbers, for Prometheus."""
        from starlette.responses import Response

        return Response(self._service.watch.page(), headers={"Content-Type": CONTENT_TYPE})

    async def models(self, request: Request) -> Response:
        """The one model."""
        from starlette.responses import JSONResponse

        card = replies.model_card(self._service.model, self._service.created)
        return JSONResponse({"object": "list", "data": [card]})

    async def model(self, request: Request) -> Response:
        """The one model, by name."""
        from starlette.responses import JSONResponse

        name = request.path_params["model"]
        self._service.check_model(name)
        return JSONResponse(replies.model_card(name, self._service.created))

    async def chat(self, request: Request) -> ASGIApp:
        """/v1/chat/completions."""
        body = await self._body(request)
        engine = self._service.bridge.engine
        roles = engine.kind.roles
        table = tables.chat_table(self._service.served)
        asked = protocol.parse_chat(body, table, self._service.defaults)
        model = self._checked_model(asked.model)
        try:
            messages = for_type(asked.messages, roles)
            prompt = await asyncio.to_thread(chat_prompt, engine, messages)
        except InputError as error:
            raise from_engine(error, "messages") from None
        choices = [
            choice_of(engine, asked.options, prompt, None, chat=True)
            for _ in range(asked.options.n)
        ]
        return await self._answer(request, asked.options, [prompt], choices, model, "messages")

    async def completions(self, request: Request) -> ASGIApp:
        """/v1/completions."""
        body = await self._body(request)
        table = tables.completion_table(self._service.served)
        asked = protocol.parse_completion(body, table, self._service.defaults)
        model = self._checked_model(asked.model)
        engine = self._service.bridge.engine
        prompts = await asyncio.to_thread(
            plain_prompts, engine, asked.prompts, echo=asked.options.echo
        )
        choices = [
            choice_of(engine, asked.options, prompt, _if_text(said), chat=False)
            for prompt, said in zip(prompts, asked.prompts, strict=True)
            for _ in range(asked.options.n)
        ]
        return await self._answer(request, asked.options, prompts, choices, model, "prompt")

    def _checked_model(self, name: str | None) -> str:
        """The name to answer with: the one that was asked for, if this server has it."""
        if name is not None:
            self._service.check_model(name)
        return name or self._service.model

    async def _body(self, request: Request) -> fields.Body:
        data = await read_body(request, self._service.settings.max_body_bytes)
        parse = fields.parse_object
        return await asyncio.to_thread(parse, data) if len(data) > _LARGE else parse(data)

    async def _answer(
        self,
        request: Request,
        options: protocol.Options,
        prompts: Sequence[Sequence[int]],
        choices: Sequence[AnyChoice],
        model: str,
        param: str,
    ) -> ASGIApp:
        """Ask the engine: choices n·i to n·i + n - 1 answer prompt i."""
        from starlette.responses import JSONResponse

        each = [prompt for prompt in prompts for _ in range(options.n)]
        self._check_count(len(each), param)
        wanted = [_numbered(options.params, choice % options.n) for choice in range(len(each))]
        chat = param == "messages"
        try:
            answers = self._service.bridge.submit(each, wanted, continues=not chat)
        except OpenChatError as error:
            raise from_engine(error, param) from None
        reply = Reply.new(model, chat=chat, include_usage=options.include_usage)
        counts = request.scope["state"]["counts"]
        counts["prompt"] = sum(map(len, prompts))  # none where somebody else renders them
        if options.stream:
            waits = isinstance(self._service.bridge.engine, UpstreamEngine)
            return EventStream(reply, answers, choices, options.n, counts, waits=waits)
        async with watched(answers, request.receive):
            try:
                done = await answers.completions()
            except ClientGoneError:
                return _Nothing()
        for completion in done:
            _check_whole(completion)
        usage = _usage(done, options.n, counts)
        listed = [
            reply.choice(index, *choice.whole(completion), completion.finish_reason)
            for index, (choice, completion) in enumerate(zip(choices, done, strict=True))
        ]
        return JSONResponse(reply.whole(listed, usage))

    def _check_count(self, answers: int, param: str) -> None:
        """ApiError 400 for more answers than ever find a place: a 429 would be tried for ever."""
        most = self._service.bridge.engine.slots + self._service.settings.queue_size
        if answers > most:
            reason = f"{answers} answers to one request, and this server takes {most} at most"
            raise fields.invalid_value("n" if param == "messages" else param, reason)


def _if_text(prompt: str | list[int]) -> str | None:
    return prompt if isinstance(prompt, str) else None


def _usage(done: Sequence[Completion], n: int, counts: dict[str, int]) -> replies.Body:
    """The token counts, also for the log; each prompt has `n` answers and is counted once."""
    prompts = [done[first : first + n] for first in range(0, len(done), n)]
    usage = replies.usage(sum(max(one.prompt_tokens for one in of) for of in prompts), done)
    counts |= {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]}
    return usage


def _check_whole(completion: Completion) -> None:
    failure = failure_of(completion)
    if failure is not None:
        raise failure
    if completion.finish_reason == "abort":
        raise shutting_down()


def _numbered(params: SamplingParams, choice: int) -> SamplingParams:
    """Each of several choices draws by a seed of its own."""
    if params.seed is None or choice == 0:
        return params
    return dataclasses.replace(params, seed=params.seed + choice)


class EventStream:
    """The response of a request with `stream`: server-sent events until [DONE]."""

    def __init__(
        self,
        reply: Reply,
        answers: Answers,
        choices: Sequence[AnyChoice],
        n: int,
        counts: dict[str, int],
        *,
        waits: bool = False,
    ) -> None:
        self._reply = reply
        self._answers = answers
        self._choices = choices
        self._n = n
        self._counts = counts
        self._waits = waits  # for the upstream's status, which is ours too

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx would hold the chunks back
        ]
        last = b""
        async with watched(self._answers, receive):
            with contextlib.suppress(ClientGoneError):
                if self._waits:
                    ended = await self._answers.first()
                    if ended is not None:
                        _check_whole(ended)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                try:
                    async for chunk in self._events():
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                except asyncio.CancelledError:  # the server's patience has ended
                    last = replies.event(shutting_down().body())
                except ApiError as error:  # the request's time is up
                    last = replies.event(error.body())
        await send({"type": "http.response.body", "body": last})

    async def _events(self) -> AsyncIterator[bytes]:
        reply = self._reply
        done: dict[int, Completion] = {}
        if reply.chat:
            for choice in range(len(self._answers.generations)):
                yield replies.event(reply.role_chunk(choice))
        async for choice, delta in self._answers:
            text, logprobs = self._choices[choice].take(delta)
            if text or logprobs:
                yield replies.event(reply.text_chunk(choice, text, logprobs))
            completion = delta.completion
            if completion is None:
                continue
            try:
                _check_whole(completion)
            except ApiError as error:  # too late for a status: the stream says it
                yield replies.event(error.body())
                return
            done[choice] = completion
            yield replies.event(reply.finish_chunk(choice, completion.finish_reason))
        usage = _usage([done[choice] for choice in sorted(done)], self._n, self._counts)
        if reply.include_usage:
            yield replies.event(reply.usage_chunk(usage))
        yield replies.DONE


@contextlib.asynccontextmanager
async def watched(answers: Answers, receive: Receive) -> AsyncIterator[None]:
    """Give the slots back as soon as the client hangs up, and in any case at the end."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        answers.client_gone()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        answers.cancel()


class _Nothing:
    """The response to a client that is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return None


async def _on_api_error(request: Request, error: Exception) -> Any:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Any:
    """Starlette's own: no such path, or not with this method."""
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers=error.headers)
    return error_response(explained(request.method, request.url.path, error, request.app.routes))


async def _on_hang_up(request: Request, error: Exception) -> Any:
    return _Nothing()
