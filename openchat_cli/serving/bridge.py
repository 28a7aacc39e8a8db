"""Between the engine's thread and the event loop: one wake-up of the loop for each engine step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from openchat_cli.engine.generation import Completion, Delta, Generation
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving.errors import failure_of, timed_out
from openchat_cli.serving.record import Outcome, Record, current
from openchat_cli.serving.upstream_choices import prompt_text

if TYPE_CHECKING:
    from openchat_cli.serving.backend import Backend


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class Answers:
    """The answers to one request, as they come.

    Iterate for (choice, delta). What has piled up while the reader was busy comes joined: a reader
    that is slow holds back nobody, and what waits for it is at most its whole answer.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._ready: dict[int, list[Delta]] = {}
        self._changed = asyncio.Event()
        self._ended: Exception | None = None
        self._record = record
        self._timer: asyncio.TimerHandle | None = None
        self.generations: list[Generation] = []

    async def first(self) -> Completion | None:
        """Wait until something has come, which stays to be read; an answer that is over already.

        Raises what the iteration would: ClientGoneError, or ApiError once the time is up.
        """
        await self._changed.wait()
        if self._ended is not None:
            raise self._ended
        ended = (deltas[-1].completion for deltas in self._ready.values())
        return next((completion for completion in ended if completion is not None), None)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        open_choices = len(self.generations)
        while open_choices:
            await self._changed.wait()
            self._changed.clear()
            if self._ended is not None:
                raise self._ended
            ready, self._ready = self._ready, {}
            for choice, deltas in ready.items():
                open_choices -= deltas[-1].completion is not None
                yield choice, _joined(deltas)

    async def completions(self) -> list[Completion]:
        """All answers, whole."""
        found: dict[int, Completion] = {}
        async for choice, delta in self:
            if delta.completion is not None:
                found[choice] = delta.completion
        return [found[choice] for choice in range(len(found))]

    def add(self, choice: int, delta: Delta) -> None:
        """Take a delta (on the loop's thread)."""
        self._ready.setdefault(choice, []).append(delta)
        self._changed.set()
        if delta.completion is not None and self._record is not None:
            self._note(self._record, choice, delta.completion)

    def _note(self, record: Record, choice: int, completion: Completion) -> None:
        counts = record.counts
        counts["completion"] = counts.get("completion", 0) + completion.completion_tokens
        failure = failure_of(completion)
        if failure is not None and record.outcome is None:
            record.fails(failure.status, failure.kind)
        if record.prompts is not None:
            record.answers[choice] = completion.text

    def client_gone(self) -> None:
        """Give the slots back and end the iteration with ClientGoneError."""
        self._end(ClientGoneError(), "client_gone")

    def limit(self, seconds: float) -> None:
        """Give up after so long: the iteration then ends with ApiError 503, where no slot got free,
        or 504.
        """
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        waiting = all(generation.started is None for generation in self.generations)
        self._end(timed_out(seconds, waiting=waiting), "timeout")

    def _end(self, error: Exception, outcome: Outcome) -> None:
        self._ended = error
        if self._record is not None and self._record.outcome is None:
            self._record.outcome = outcome
        self.cancel()
        self._changed.set()

    def cancel(self) -> None:
        """Give back the slots of what is still under way."""
        if self._timer is not None:
            self._timer.cancel()
        for generation in self.generations:
            generation.cancel()


def _joined(deltas: Sequence[Delta]) -> Delta:
    if len(deltas) == 1:
        return deltas[0]
    return Delta(
        text="".join(delta.text for delta in deltas),
        completion=deltas[-1].completion,
        logprobs=tuple(item for delta in deltas for item in delta.logprobs),
        prompt_logprobs=next((d.prompt_logprobs for d in deltas if d.prompt_logprobs), None),
    )


class Bridge:
    """Submits to the engine from the event loop and brings its deltas back."""

    def __init__(self, engine: Backend, *, timeout: float | None = None) -> None:
        self.engine = engine
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._readers: dict[Generation, tuple[Answers, int]] = {}

    def submit(
        self,
        prompts: Sequence[Sequence[int]],
        params: Sequence[SamplingParams],
        *,
        continues: bool = False,
    ) -> Answers:
        """Ask for all the answers of one request; raises as Engine.submit_together.

        Runs on the loop's thread, so nothing is delivered before all of them are known.
        """
        record = current()
        answers = Answers(record)
        answers.generations = self.engine.submit_together(
            prompts, params, deliver=self._deliver, continues=continues
        )
        for choice, generation in enumerate(answers.generations):
            self._readers[generation] = (answers, choice)
        if self._timeout is not None:
            answers.limit(self._timeout)
        if record is not None:
            record.generations = answers.generations
            if record.prompts is not None:
                record.prompts += [prompt_text(self.engine, prompt) for prompt in prompts]
        return answers

    def _deliver(self, batch: list[tuple[Generation, Delta]]) -> None:
        self._loop.call_soon_threadsafe(self._hand_out, batch)

    def _hand_out(self, batch: list[tuple[Generation, Delta]]) -> None:
        for generation, delta in batch:
            answers, choice = self._readers[generation]
            answers.add(choice, delta)
            if delta.completion is not None:
                del self._readers[generation]
