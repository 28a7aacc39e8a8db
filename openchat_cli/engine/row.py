"""One request inside the engine: what was asked, what is done of it."""

from __future__ import annotations

import time
from collections import deque

from openchat_cli.engine.detokenise import TextStream
from openchat_cli.engine.generation import (
    Completion,
    Deliver,
    Delta,
    FinishReason,
    Generation,
    TokenLogprob,
)
from openchat_cli.engine.sampling import RowSampler
from openchat_cli.engine.settings import SamplingParams


class Row:
    """One request inside the engine."""

    def __init__(
        self,
        generation: Generation,
        deliver: Deliver,
        prompt: list[int],
        params: SamplingParams,
        text: TextStream,
        max_tokens: int,
    ) -> None:
        self.generation = generation
        self.deliver = deliver
        self.prompt = prompt
        self.params = params
        self.sampler = RowSampler(params, prompt)
        self.stop_token_ids = frozenset(params.stop_token_ids)
        self.text = text
        self.max_tokens = max_tokens
        self.arrival = 0  # its number in the order of requests
        # What has to be in the slot before it gains tokens: the prompt, and after it gave way also
        # what it had said.
        self.source = prompt
        self.reused = 0  # prompt tokens that were copied and not read
        self._turn_began = 0  # tokens it had when it got its slot
        self.cached = 0  # tokens whose keys and values are in the slot
        self.tokens: list[int] = []  # sampled
        self.prompt_logprobs: list[TokenLogprob | None] = [None]
        self.logprobs: list[TokenLogprob] = []  # of tokens whose text was given out
        # Of those whose text is still held back: where in the answer it begins.
        self._unsaid: deque[tuple[int, TokenLogprob]] = deque()

    def note(self, logprob: TokenLogprob) -> None:
        """Keep the log-probability of the token that is about to be added to the text."""
        self._unsaid.append((self.text.place(logprob.token), logprob))

    def said(self, *, final: bool = False) -> tuple[TokenLogprob, ...]:
        """The log-probabilities of what has been given out since the last call.

        At the end (`final`) all the rest, but nothing of a stop string.
        """
        found: list[TokenLogprob] = []
        everything = final and not self.text.stopped
        while self._unsaid and (everything or self._unsaid[0][0] < self.text.given):
            found.append(self._unsaid.popleft()[1])
        self.logprobs += found
        return tuple(found)

    @property
    def unread(self) -> int:
        """Tokens of its source not yet in the slot."""
        return max(0, len(self.source) - self.cached)

    @property
    def turn(self) -> int:
        """Tokens added since it got its slot."""
        return len(self.tokens) - self._turn_began

    @property
    def left(self) -> int:
        """Tokens it may still add."""
        return max(0, self.max_tokens - len(self.tokens))

    @property
    def need(self) -> int:
        """The work it still is, in tokens to read and to add."""
        return self.unread + self.left

    def starts(self, copied: int) -> None:
        """It has a slot, and in it the first `copied` tokens of its source."""
        self.cached = copied
        self._turn_began = len(self.tokens)
        if self.generation.started is None:
            self.generation.started = time.perf_counter()
            self.reused = copied

    def read_again(self) -> None:
        """It has lost its slot, so what it said has to be read; the last token always is input."""
        self.source = [*self.prompt, *self.tokens[:-1]]
        self.cached = 0

    @property
    def reusing(self) -> bool:
        """Whether its prompt may start from a copy: not where all of it has to be looked at."""
        return self.params.prompt_logprobs is None

    @property
    def wanted(self) -> list[int]:
        """What could be copied: all but the last token, which has to be read for what follows."""
        return self.source[:-1]

    @property
    def held(self) -> list[int]:
        """The tokens whose keys and values are in the slot."""
        return [*self.prompt, *self.tokens][: self.cached]

    def last_delta(self, reason: FinishReason, error: str | None, text: str = "") -> Delta:
        """The end of the answer: `text` that is still to be said, and the whole."""
        text += self.text.finish()
        logprobs = self.said(final=True)
        asked = self.params
        completion = Completion(
            text=self.text.text,
            token_ids=tuple(self.tokens),
            finish_reason=reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.tokens),
            error=error,
            cached_tokens=self.reused,
            logprobs=None if asked.logprobs is None else tuple(self.logprobs),
            prompt_logprobs=None if asked.prompt_logprobs is None else tuple(self.prompt_logprobs),
        )
        return Delta(text, completion, logprobs)
