"""Between the engine's thread and the event loop: one wake-up of the loop for each engine step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from openchat_cli.engine.generation import Completion, Delta, Generation
from openchat_cli.engine.settings import SamplingParams

if TYPE_CHECKING:
    from openchat_cli.serving.backend import Backend


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class Answers:
    """The answers to one request, as they come.

    Iterate for (choice, delta). What has piled up while the reader was busy comes joined.
    """

    def __init__(self) -> None:
        self._ready: dict[int, list[Delta]] = {}
        self._changed = asyncio.Event()
        self._gone = False
        self.generations: list[Generation] = []

    async def first(self) -> Completion | None:
        """Wait until something has come, which stays to be read; an answer that is over already.

        Raises ClientGoneError where the client hangs up before.
        """
        await self._changed.wait()
        if self._gone:
            raise ClientGoneError
        ended = (deltas[-1].completion for deltas in self._ready.values())
        return next((completion for completion in ended if completion is not None), None)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        open_choices = len(self.generations)
        while open_choices:
            await self._changed.wait()
            self._changed.clear()
            if self._gone:
                raise ClientGoneError
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

    def client_gone(self) -> None:
        """Give the slots back and end the iteration with ClientGoneError."""
        self._gone = True
        self.cancel()
        self._changed.set()

    def cancel(self) -> None:
        """Give back the slots of what is still under way."""
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

    def __init__(self, engine: Backend) -> None:
        self.engine = engine
        self._loop = asyncio.get_running_loop()
        self._readers: dict[Generation, tuple[Answers, int]] = {}

    def submit(
        self,
        prompts: Sequence[Sequence[int]],
        params: Sequence[SamplingParams],
        *,
        continues: bool = False,
    ) -> Answers:
        """Ask for all the answers of one request; raises as Engine.submit, and then asks for none.

        Runs on the loop's thread, so nothing is delivered before all of them are known.
        """
        answers = Answers()
        try:
            for choice, (prompt, wanted) in enumerate(zip(prompts, params, strict=True)):
                generation = self.engine.submit(
                    prompt, wanted, deliver=self._deliver, continues=continues
                )
                self._readers[generation] = (answers, choice)
                answers.generations.append(generation)
        except BaseException:
            answers.cancel()
            raise
        return answers

    def _deliver(self, batch: list[tuple[Generation, Delta]]) -> None:
        self._loop.call_soon_threadsafe(self._hand_out, batch)

    def _hand_out(self, batch: list[tuple[Generation, Delta]]) -> None:
        for generation, delta in batch:
            answers, choice = self._readers[generation]
            answers.add(choice, delta)
            if delta.completion is not None:
                del self._readers[generation]
