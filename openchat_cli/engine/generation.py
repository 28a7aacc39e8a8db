"""What a request to the engine gives back (no torch here)."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from openchat_cli.core.errors import InputError, OpenChatError

FinishReason = Literal["stop", "length", "abort", "error"]


class EngineError(OpenChatError):
    """The engine has stopped and answers nothing any more."""


class QueueFullError(OpenChatError):
    """As many requests wait as may; try again later."""


class ContextLengthError(InputError):
    """The prompt leaves no room for an answer."""

    def __init__(self, prompt_tokens: int, context: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens, the context is {context}",
            hint="shorten the conversation",
        )
        self.prompt_tokens = prompt_tokens
        self.context = context


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was, natural logarithm, and the likeliest tokens there, best first.

    `ends`: it ended the answer and is no part of its text.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    ends: bool = False


# A prompt's first token was not predicted by anything.
PromptLogprobs = tuple[TokenLogprob | None, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer.

    `finish_reason`: "stop" (end of turn, a stop string or a stop token), "length", "abort"
    (cancelled) or "error", which `error` explains. `token_ids` is all that was sampled, so the
    end-of-turn token too; `text` leaves that out, and anything from a stop string on.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    error: str | None = None
    cached_tokens: int = 0  # of the prompt's: those that were not read anew
    logprobs: tuple[TokenLogprob, ...] | None = None  # without those of a stop string
    prompt_logprobs: PromptLogprobs | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step added; the last one of an answer carries the whole completion.

    `logprobs` are of the tokens whose text this or an earlier delta brought, each once.
    """

    text: str
    completion: Completion | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: PromptLogprobs | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How many answers are under way and how many wait."""

    answering: int
    waiting: int


@dataclass(slots=True)
class Totals:
    """What was done since the start; written by one thread alone."""

    prompt: int = 0  # tokens of prompts that got a slot
    hits: int = 0  # prompts that started from a copy
    reused: int = 0  # tokens of theirs that were not read
    generated: int = 0  # tokens sampled
    preempted: int = 0  # times a long answer gave way to a short one
    steps: int = 0


Deliver = Callable[[list[tuple["Generation", Delta]]], None]


class Generation:
    """A request under way: iterate for its deltas, or wait for the whole with `result`.

    One consumer only. When the request was submitted with a `deliver` of its own, the deltas go
    there and nowhere else.
    """

    def __init__(self, prompt_tokens: int, wake: Callable[[], None]) -> None:
        self.prompt_tokens = prompt_tokens
        self.cancelled = False
        # Seconds of time.perf_counter; the engine fills them in.
        self.submitted = time.perf_counter()
        self.started: float | None = None  # when it first got a slot
        self.first_token: float | None = None
        self._wake = wake
        self._deltas: queue.SimpleQueue[Delta] = queue.SimpleQueue()
        self._completion: Completion | None = None

    def __iter__(self) -> Iterator[Delta]:
        while self._completion is None:
            delta = self._deltas.get()
            self._completion = delta.completion
            yield delta

    def result(self) -> Completion:
        """Wait for the end."""
        for _ in self:
            pass
        assert self._completion is not None
        return self._completion

    def cancel(self) -> None:
        """Give the slot back within one step; the answer ends with "abort" unless it is over."""
        self.cancelled = True
        self._wake()

    def put(self, delta: Delta) -> None:
        """Hand over a delta (the engine's side)."""
        self._deltas.put(delta)


def deliver_to_iterators(batch: list[tuple[Generation, Delta]]) -> None:
    """The default delivery: into each generation's own queue."""
    for generation, delta in batch:
        generation.put(delta)
