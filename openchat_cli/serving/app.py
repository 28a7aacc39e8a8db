"""The HTTP application: routes, bodies, streams, hang-ups."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.engine.generation import Completion
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving import fields, protocol, replies
from openchat_cli.serving.bridge import Answers, Bridge, ClientGoneError
from openchat_cli.serving.choices import Choice
from openchat_cli.serving.errors import ApiError, from_engine, shutting_down
from openchat_cli.serving.keys import Keys
from openchat_cli.serving.middleware import AccessLog, KeyCheck, error_response
from openchat_cli.serving.replies import Reply
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.upstream import UpstreamEngine
from openchat_cli.serving.upstream_choices import (
    UpstreamChoice,
    chat_prompt,
    choice_of,
    plain_prompts,
)
from openchat_cli.serving.upstream_errors import FailedCompletion

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

# A body over the limit is still read up to this, or the client would see a broken connection in
# place of the answer.
_DRAIN_BYTES = 64 * 2**20

AnyChoice = Choice | UpstreamChoice


class Service:
    """What the routes share: the settings and, once it is loaded, the engine."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.defaults = settings.sampling()
        self.created = int(time.time())
        self._bridge: Bridge | None = None

    def start(self, bridge: Bridge) -> None:
        """The model is loaded: answer from now on."""
        self._bridge = bridge

    @property
    def bridge(self) -> Bridge:
        """The running engine's; ApiError 503 while the model loads."""
        if self._bridge is None:
            headers = {"Retry-After": "5"}
            raise ApiError(503, "The model is loading.", code="loading", headers=headers)
        return self._bridge

    @property
    def model(self) -> str:
        """What clients call the model."""
        return self.settings.name or self.bridge.engine.kind.name

    def check_model(self, name: str) -> None:
        """ApiError 404 for a model that is not served."""
        known = {self.model, self.settings.engine.model_path.name or self.model}
        if self.settings.name is None:
            known |= set(self.bridge.engine.kind.aliases)
        if name not in known:
            message = f"The model '{name}' does not exist; this server has '{self.model}'."
            raise ApiError(404, message, param="model", code="model_not_found")


def create_app(service: Service) -> Starlette:
    """The application that serves `service`."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect
    from starlette.routing import Route

    routes = Routes(service)
    app = Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/v1/models", routes.models),
            Route("/v1/models/{model:path}", routes.model),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.completions, methods=["POST"]),
        ],
        middleware=[
            Middleware(AccessLog),
            Middleware(KeyCheck, keys=Keys(service.settings.api_keys)),
        ],
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_hang_up,  # in the middle of the body
            Exception: _on_bug,
        },
    )
    app.router.redirect_slashes = False
    return app


class Routes:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, request: Request) -> Response:
        """200 when requests are answered, 503 while the model loads and after a crash."""
        from starlette.responses import JSONResponse

        try:
            engine = self._service.bridge.engine
        except ApiError:
            return JSONResponse({"status": "loading"}, 503)
        if engine.failure is not None:
            return JSONResponse({"status": "failed", "reason": engine.failure}, 503)
        if engine.trouble is not None:
            return JSONResponse({"status": "upstream_down", "reason": engine.trouble}, 503)
        load = dataclasses.asdict(engine.load_now())
        return JSONResponse({"status": "ok", "slots": engine.slots, **load})

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
        asked = protocol.parse_chat(
            body, self._service.defaults, self._service.settings.max_choices
        )
        engine = self._service.bridge.engine
        try:
            prompt = await asyncio.to_thread(chat_prompt, engine, asked.messages)
        except InputError as error:
            raise from_engine(error, "messages") from None
        choices = [
            choice_of(engine, asked.options, prompt, None, chat=True)
            for _ in range(asked.options.n)
        ]
        return await self._answer(
            request, asked.options, [prompt], choices, body["model"], "messages"
        )

    async def completions(self, request: Request) -> ASGIApp:
        """/v1/completions."""
        body = await self._body(request)
        asked = protocol.parse_completion(
            body, self._service.defaults, self._service.settings.max_choices
        )
        engine = self._service.bridge.engine
        prompts = await asyncio.to_thread(
            plain_prompts, engine, asked.prompts, echo=asked.options.echo
        )
        choices = [
            choice_of(engine, asked.options, prompt, _if_text(said), chat=False)
            for prompt, said in zip(prompts, asked.prompts, strict=True)
            for _ in range(asked.options.n)
        ]
        return await self._answer(request, asked.options, prompts, choices, body["model"], "prompt")

    async def _body(self, request: Request) -> fields.Body:
        data = await read_body(request, self._service.settings.max_body_bytes)
        body = fields.parse_object(data)
        self._service.check_model(protocol.model_name(body))
        return body

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
        wanted = [_numbered(options.params, choice % options.n) for choice in range(len(each))]
        chat = param == "messages"
        try:
            answers = self._service.bridge.submit(each, wanted, continues=not chat)
        except OpenChatError as error:
            raise from_engine(error, param) from None
        reply = Reply.new(model, chat=chat, include_usage=options.include_usage)
        counts = request.scope["state"]["counts"]
        counts["prompt"] = prompt_tokens = sum(map(len, prompts))
        if options.stream:
            waits = isinstance(self._service.bridge.engine, UpstreamEngine)
            return EventStream(reply, answers, choices, prompt_tokens, counts, waits=waits)
        async with watched(answers, request.receive):
            try:
                done = await answers.completions()
            except ClientGoneError:
                return _Nothing()
        for completion in done:
            _check_whole(completion)
        usage = replies.usage(prompt_tokens or _counted(done), done)
        counts["completion"] = usage["completion_tokens"]
        listed = [
            reply.choice(index, *choice.whole(completion), completion.finish_reason)
            for index, (choice, completion) in enumerate(zip(choices, done, strict=True))
        ]
        return JSONResponse(reply.whole(listed, usage))


def _if_text(prompt: str | list[int]) -> str | None:
    return prompt if isinstance(prompt, str) else None


def _counted(done: Sequence[Completion]) -> int:
    """The tokens of a prompt that somebody else rendered: the same for all its answers."""
    return max((completion.prompt_tokens for completion in done), default=0)


def _check_whole(completion: Completion) -> None:
    if isinstance(completion, FailedCompletion) and completion.failure is not None:
        raise completion.failure
    if completion.error is not None:
        raise ApiError(500, completion.error, code="generation_failed")
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
        prompt_tokens: int,
        counts: dict[str, int],
        *,
        waits: bool = False,
    ) -> None:
        self._reply = reply
        self._answers = answers
        self._choices = choices
        self._prompt_tokens = prompt_tokens
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
        await send({"type": "http.response.body", "body": last})

    async def _events(self) -> AsyncIterator[bytes]:
        reply = self._reply
        done: list[Completion] = []
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
            done.append(completion)
            yield replies.event(reply.finish_chunk(choice, completion.finish_reason))
        usage = replies.usage(self._prompt_tokens or _counted(done), done)
        self._counts["completion"] = usage["completion_tokens"]
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


async def _on_api_error(request: Request, error: Exception) -> Any:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Any:
    """Starlette's own: no such path, or not with this method."""
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        shown = ApiError(404, f"Unknown request URL: {where}.", code="unknown_url")
    elif error.status_code == 405:
        message = f"Not allowed: {where}."
        shown = ApiError(405, message, code="method_not_allowed", headers=error.headers)
    else:
        shown = ApiError(error.status_code, error.detail, headers=error.headers)
    return error_response(shown)


async def _on_hang_up(request: Request, error: Exception) -> Any:
    return _Nothing()


async def _on_bug(request: Request, error: Exception) -> Any:
    return error_response(ApiError(500, "The server had an error while processing your request."))
