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
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

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
    Totals,
    deliver_to_iterators,
)
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving import upstream_errors as errors
from openchat_cli.serving.errors import ApiError
from openchat_cli.serving.upstream_client import UpstreamClient
from openchat_cli.serving.upstream_settings import Behind, UpstreamSettings
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


class NoTokenizer:
    """In the place of a tokeniser where there is none: the upstream renders conversations."""

    bos_id = None
    eot_id = -1
    vocab_size = 2**31  # any id may be one of the upstream's

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
        names_ids: bool = False,
    ) -> None:
        """`names_ids`: it can name tokens by their ids, as vLLM does; others refuse the field."""
        self.kind = kind
        self.tokenizer = tokenizer
        self.context = context  # 0 where nobody knows it
        self.slots = settings.max_concurrency
        # Nothing of these is here.
        self.device = self.dtype = ""
        self.weight_bytes = self.slot_bytes = 0
        self.totals = Totals()
        self.failure: str | None = None  # an upstream may come back: it never ends this server
        self.renders = isinstance(tokenizer, ChatTokenizer)
        self.behind = Behind(settings.base, model, renders=not self.renders)
        self.drops_space = self.renders and _drops_space(tokenizer)
        self._settings = settings
        self._model = model
        self._names_ids = names_ids
        self._jobs: dict[Generation, _Job] = {}
        self._answering = 0
        self._held = 0
        self._closing = False
        self._client = UpstreamClient(settings)
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._running = threading.Event()
        self._thread.start()
        self._running.wait()

    @property
    def trouble(self) -> str | None:
        """Why the upstream can't be asked just now."""
        return self._client.trouble

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
            # Full by what is in the line, not by what comes, as Engine.submit_together has it.
            if self._held >= self.slots + self._settings.queue_size:
                raise QueueFullError(f"{self._settings.queue_size} requests are waiting already")
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
        async with self._client:
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
        job.generation.started = time.perf_counter()
        with self._lock:
            self._answering += 1
        try:
            async with self._client.opened(*self._request(job)) as response:
                await self._read(job, response)
        finally:
            with self._lock:
                self._answering -= 1
        return self._completion(job, job.reason or "stop")

    def _request(self, job: _Job) -> tuple[str, dict[str, Any]]:
        eot_id = self.tokenizer.eot_id if self.renders else None
        path, body = request(job.prompt, job.params, self._model, eot_id)
        chat = self.renders and not job.continues
        if self._names_ids and chat and job.params.logprobs is not None:
            body["return_tokens_as_token_ids"] = True  # says which bytes a token stands for
        return path, body

    async def _read(self, job: _Job, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            self._client.warn(f"it sends {kind or 'nothing'} where a stream was asked for")
            raise errors.broken("it is not a stream")
        job.send(Delta(""))  # begun: from now on only the stream can tell of a failure
        self._client.trouble = None
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
            self._client.warn(str(error))
            raise errors.broken(str(error)) from None
        self._check_ended(job)

    def _check_ended(self, job: _Job) -> None:
        if job.reason is None:
            self._client.warn("a stream ended in the middle of an answer")
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
            if job.generation.first_token is None:
                job.generation.first_token = time.perf_counter()
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
        self._add_up(job, count)
        return Completion(
            text=text,
            token_ids=(),
            finish_reason=cast("FinishReason", reason),
            prompt_tokens=job.prompt_tokens,
            completion_tokens=count,
            cached_tokens=job.cached_tokens,
            logprobs=tuple(job.logprobs) if job.params.logprobs is not None else None,
        )

    def _add_up(self, job: _Job, generated: int) -> None:
        totals = self.totals
        totals.generated += generated
        if job.generation.started is not None:
            totals.prompt += job.prompt_tokens
            totals.hits += job.cached_tokens > 0
            totals.reused += job.cached_tokens

    # --- its health ---

    async def _look_after(self) -> None:
        """Ask now and then whether the upstream is well, for our own /health."""
        while True:
            await asyncio.sleep(self._settings.check_seconds)
            await self._client.look()


def _with_room(params: SamplingParams, room: int) -> SamplingParams:
    return dataclasses.replace(params, max_tokens=min(params.max_tokens, room))


def _drops_space(tokenizer: ChatTokenizer | NoTokenizer) -> bool:
    """SentencePiece puts a space before every text, an answer too."""
    return tokenizer.token_bytes(tokenizer.encode("a")[0]).startswith(b" ")
