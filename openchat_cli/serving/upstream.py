"""A server behind this one in the place of the engine: the same interface, answers from elsewhere.

One thread with an event loop of its own asks the upstream, always for a stream, once for every
answer. An answer that nobody waits for any more closes its connection at once, which is how the
upstream learns of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from openchat_cli.core.errors import InputError
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer
from openchat_cli.engine.generation import (
    Completion,
    ContextLengthError,
    Deliver,
    Delta,
    EngineError,
    FinishReason,
    Generation,
    Load,
    QueueFullError,
    deliver_to_iterators,
)
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving import upstream_errors as errors
from openchat_cli.serving.errors import ApiError
from openchat_cli.serving.settings import is_loopback
from openchat_cli.serving.upstream_settings import UpstreamSettings
from openchat_cli.serving.upstream_wire import (
    BrokenAnswerError,
    Events,
    Piece,
    SpelledLogprob,
    UpstreamPrompt,
    piece,
    request,
)

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("openchat.upstream")

# Servers close idle connections after 5 seconds or more: let go of them before.
_IDLE_SECONDS = 4.0
_WARN_SECONDS = 10.0  # between lines in the log about the same trouble
_MAX_ERROR_BYTES = 2**16


class NoTokenizer:
    """In the place of a tokeniser where there is none: the upstream renders conversations."""

    bos_id = None
    eot_id = -1
    vocab_size = 0

    def encode(self, text: str) -> list[int]:
        """InputError, always."""
        raise _no_tokenizer()

    def token_bytes(self, token: int) -> bytes:
        """InputError, always."""
        raise _no_tokenizer()


def _no_tokenizer() -> InputError:
    hint = "openchat serve --upstream URL --model-path FOLDER, a folder with the tokeniser"
    return InputError("This server has no tokenizer: the upstream has it", hint)


@dataclass(eq=False)
class _Job:
    """One answer on its way."""

    generation: Generation
    deliver: Deliver
    prompt: Sequence[int]
    params: SamplingParams
    continues: bool
    task: asyncio.Task[None] | None = None
    text: list[str] = field(default_factory=list)
    logprobs: list[SpelledLogprob] = field(default_factory=list)
    reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    cached_tokens: int = 0
    at_start: bool = False  # of a text whose first space is to go

    def send(self, delta: Delta) -> None:
        """Hand over what has come."""
        self.deliver([(self.generation, delta)])


class UpstreamEngine:
    """Answers requests by asking a server; use as `engine.Engine`, and `close` it."""

    def __init__(
        self,
        settings: UpstreamSettings,
        kind: ModelType,
        tokenizer: ChatTokenizer | NoTokenizer,
        *,
        model: str,
        context: int,
    ) -> None:
        self.kind = kind
        self.tokenizer = tokenizer
        self.context = context  # 0 where nobody knows it
        self.slots = settings.max_concurrency
        self.device = f"the upstream {settings.base}"
        self.failure: str | None = None  # an upstream may come back: it never ends this server
        self.trouble: str | None = None  # why the upstream can't be asked just now
        self.renders = isinstance(tokenizer, ChatTokenizer)
        self.drops_space = self.renders and _drops_space(tokenizer)
        self._settings = settings
        self._model = model
        self._jobs: dict[Generation, _Job] = {}
        self._answering = 0
        self._held = 0
        self._closing = False
        self._warned = -_WARN_SECONDS
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._running = threading.Event()
        self._thread.start()
        self._running.wait()

    # --- the callers' side ---

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        deliver: Deliver = deliver_to_iterators,
        continues: bool = False,
    ) -> Generation:
        """As Engine.submit; `prompt` may be an UpstreamPrompt."""
        asked = [prompt]
        (made,) = self.submit_together(asked, [params], deliver=deliver, continues=continues)
        return made

    def submit_together(
        self,
        prompts: Sequence[Sequence[int]],
        params: Sequence[SamplingParams],
        *,
        deliver: Deliver = deliver_to_iterators,
        continues: bool = False,
    ) -> list[Generation]:
        """All the answers of one request, or none of them.

        Raises InputError, ContextLengthError, QueueFullError, and EngineError after `close`.
        """
        jobs = [
            self._job(prompt, wanted, deliver, continues)
            for prompt, wanted in zip(prompts, params, strict=True)
        ]
        with self._lock:
            if self._closing:
                raise EngineError("the server is closing")
            if self._held + len(jobs) > self.slots + self._settings.queue_size:
                waiting = max(0, self._held - self._answering)
                raise QueueFullError(f"{waiting} requests are waiting already")
            self._held += len(jobs)
            self._loop.call_soon_threadsafe(self._begin, jobs)
        return [job.generation for job in jobs]

    def load_now(self) -> Load:
        """How many requests are under way at the upstream and how many wait here."""
        with self._lock:
            return Load(self._answering, self._held - self._answering)

    def close(self) -> None:
        """End what is under way with "abort", close the connections."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _job(
        self, prompt: Sequence[int], params: SamplingParams, deliver: Deliver, continues: bool
    ) -> _Job:
        rendered = not isinstance(prompt, UpstreamPrompt) or (
            prompt.messages is None and prompt.text is None
        )
        if rendered and not prompt:
            raise InputError("the prompt is empty")
        if rendered and self.context:
            if len(prompt) >= self.context:
                raise ContextLengthError(len(prompt), self.context)
            room = self.context - len(prompt)
            params = _with_room(params, room)
        generation = Generation(len(prompt), lambda: self._wake(generation))
        job = _Job(generation, deliver, prompt, params, continues, prompt_tokens=len(prompt))
        job.at_start = self.drops_space and rendered and not continues
        return job

    def _wake(self, generation: Generation) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all answers with it
            self._loop.call_soon_threadsafe(self._cancel, generation)

    # --- the loop's thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._stop = asyncio.Event()
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._turns = asyncio.Semaphore(self.slots)
        async with _client(self._settings) as self._client:
            self._running.set()
            looking = asyncio.create_task(self._look_after())
            await self._stop.wait()
            tasks = [looking, *(job.task for job in self._jobs.values() if job.task is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self._jobs[job.generation] = job
            job.task = asyncio.ensure_future(self._answer(job))

    def _cancel(self, generation: Generation) -> None:
        job = self._jobs.get(generation)
        if job is not None and job.task is not None:
            job.task.cancel()

    async def _answer(self, job: _Job) -> None:
        ending: Completion
        try:
            async with self._turns:
                ending = await self._asked(job)
        except asyncio.CancelledError:
            ending = self._completion(job, "abort")
        except ApiError as error:
            ending = errors.failed(error, job.prompt_tokens, text="".join(job.text))
        except Exception:  # fails alone, whatever it is
            log.exception("a request to the upstream failed")
            ending = errors.failed(errors.broken("an error of this server"), job.prompt_tokens)
        del self._jobs[job.generation]
        with self._lock:
            self._held -= 1
        job.send(Delta("", ending))

    async def _asked(self, job: _Job) -> Completion:
        if job.generation.cancelled:
            raise asyncio.CancelledError
        with self._lock:
            self._answering += 1
        try:
            async with self._opened(job) as response:
                await self._read(job, response)
        finally:
            with self._lock:
                self._answering -= 1
        return self._completion(job, job.reason or "stop")

    @contextlib.asynccontextmanager
    async def _opened(self, job: _Job) -> AsyncIterator[httpx2.Response]:
        """The upstream's 200; ApiError for anything else."""
        import httpx2

        path, body = request(job.prompt, job.params, self._model, self._eot_id())
        if self.renders and not job.continues and job.params.logprobs is not None:
            body["return_tokens_as_token_ids"] = True  # vLLM's: says which bytes a token stands for
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

    async def _send(self, path: str, body: dict[str, object]) -> httpx2.Response:
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
            self._warn(f"it answers {status}")
        return errors.refused(status, response.headers, body)

    def _lost(self, error: httpx2.HTTPError) -> ApiError:
        import httpx2

        self._warn(type(error).__name__)
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            self.trouble = "it can't be reached"
            return errors.unreachable()
        if isinstance(error, httpx2.TimeoutException):
            return errors.timed_out()
        return errors.broken("the connection was lost")

    async def _read(self, job: _Job, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            self._warn(f"it sends {kind or 'nothing'} where a stream was asked for")
            raise errors.broken("it is not a stream")
        job.send(Delta(""))  # begun: from now on only the stream can tell of a failure
        self.trouble = None
        chat = isinstance(job.prompt, UpstreamPrompt) and job.prompt.messages is not None
        token_bytes = self.tokenizer.token_bytes if self.renders else None
        events = Events()
        try:
            async for chunk in response.aiter_bytes():
                for data in events.feed(chunk):
                    if data.strip() == b"[DONE]":
                        self._check_ended(job)
                        return
                    self._take(job, piece(data, chat=chat, token_bytes=token_bytes))
        except BrokenAnswerError as error:
            self._warn(str(error))
            raise errors.broken(str(error)) from None
        self._check_ended(job)

    def _check_ended(self, job: _Job) -> None:
        if job.reason is None:
            self._warn("a stream ended in the middle of an answer")
            raise errors.broken("it ended in the middle")
        if job.reason in ("abort", "error"):
            raise errors.broken("it gave up")

    def _take(self, job: _Job, found: Piece) -> None:
        text, logprobs = found.text, found.logprobs
        if job.at_start and text:
            text = text.removeprefix(" ")
            job.at_start = False
        job.reason = found.finish_reason or job.reason
        if found.usage is not None:
            self._count(job, found)
        if text or logprobs:
            job.text.append(text)
            job.logprobs += logprobs
            job.send(Delta(text, None, logprobs))

    def _count(self, job: _Job, found: Piece) -> None:
        usage = found.usage or {}
        prompt, answer = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and not job.prompt_tokens:
            job.prompt_tokens = prompt
        if isinstance(answer, int):
            job.completion_tokens = answer
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        if isinstance(cached, int):
            job.cached_tokens = cached

    def _completion(self, job: _Job, reason: str) -> Completion:
        text = "".join(job.text)
        count = job.completion_tokens
        if count is None:  # the upstream does not tell
            count = len(self.tokenizer.encode(text)) if self.renders and text else len(job.text)
        return Completion(
            text=text,
            token_ids=(),
            finish_reason=cast("FinishReason", reason),
            prompt_tokens=job.prompt_tokens,
            completion_tokens=count,
            cached_tokens=job.cached_tokens,
            logprobs=tuple(job.logprobs) if job.params.logprobs is not None else None,
        )

    def _eot_id(self) -> int | None:
        return self.tokenizer.eot_id if self.renders else None

    # --- its health ---

    async def _look_after(self) -> None:
        """Ask now and then whether the upstream is well, for our own /health."""
        while True:
            await asyncio.sleep(self._settings.check_seconds)
            self.trouble = await self._look()
            if self.trouble is not None:
                self._warn(self.trouble)

    async def _look(self) -> str | None:
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

    def _warn(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._warned >= _WARN_SECONDS:
            self._warned = now
            log.warning("the upstream %s: %s", self._settings.base, reason)


def _with_room(params: SamplingParams, room: int) -> SamplingParams:
    return dataclasses.replace(params, max_tokens=min(params.max_tokens, room))


def _drops_space(tokenizer: ChatTokenizer | NoTokenizer) -> bool:
    """SentencePiece puts a space before every text, an answer too."""
    return tokenizer.token_bytes(tokenizer.encode("a")[0]).startswith(b" ")


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
