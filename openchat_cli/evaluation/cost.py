"""What judging costs, told before it is spent and without a network."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from openchat_cli.core.client import CallError, Chat, Reply
from openchat_cli.core.errors import UsageError
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.token_count import token_counter

PRICES_OF = "2025-08"  # when the table below was written down
# US dollars for a million prompt tokens and a million completion tokens, OpenAI's list prices.
_PRICES: Mapping[str, tuple[float, float]] = {
    "gpt-5": (1.25, 10.0),
    "gpt-5-mini": (0.25, 2.0),
    "gpt-5-nano": (0.05, 0.4),
    "gpt-4.1": (2.0, 8.0),
    "gpt-4.1-mini": (0.4, 1.6),
    "gpt-4.1-nano": (0.1, 0.4),
    "gpt-4o": (2.5, 10.0),
    "gpt-4o-mini": (0.15, 0.6),
    "o3": (2.0, 8.0),
    "o4-mini": (1.1, 4.4),
    "gpt-4-turbo": (10.0, 30.0),
    "gpt-4": (30.0, 60.0),
    "gpt-3.5-turbo": (0.5, 1.5),
}
_PER_MESSAGE = 4  # tokens that chat formats add to each message, and 3 to a reply


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one token."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """US dollars."""
        return prompt_tokens * self.prompt + completion_tokens * self.completion


def price_of(model: str) -> Price | None:
    """The list price of a model, also of its dated snapshots; None where the table lacks it."""
    found = _PRICES.get(re.sub(r"-(?:\d{4}-\d\d-\d\d|\d{4}|latest)$", "", model))
    return None if found is None else Price(found[0] / 1e6, found[1] / 1e6)


class BudgetError(CallError):
    """A call was not made because the budget does not reach for it."""


class Purse:
    """What a model's calls in a run have cost, and whether the budget reaches for the next.

    Calls under way are counted at the most they may cost until they are back. Raises UsageError
    for a budget where the model's price is not known.
    """

    def __init__(
        self, model: str, max_tokens: int, budget: float | None, journal: Journal | None
    ) -> None:
        self.price = price_of(model)
        if budget is not None and self.price is None:
            known = ", ".join(_PRICES)
            raise UsageError(f"--budget: no price is known for '{model}'", f"known: {known}")
        self._count, self.counted_by = token_counter(model)
        self._max_tokens = max_tokens
        self._budget = budget
        self._held = 0.0
        self._holders = 0
        rows = journal.rows.values() if journal else ()
        usages = [row["usage"] for row in rows if row.get("usage")]
        self.spent = sum(self._cost(usage) for usage in usages)

    def prompt_tokens(self, chat: Chat) -> float:
        """The tokens of a request, by the counter at hand."""
        texts = [message["content"] for message in chat.messages]
        return 3 + sum(_PER_MESSAGE + self._count(text) for text in texts)

    @contextlib.asynccontextmanager
    async def hold(self, chat: Chat) -> AsyncIterator[None]:
        """Make sure of the money for one call; BudgetError where there is not enough."""
        if self._budget is None or self.price is None:
            yield
            return
        most = self.price.of(self.prompt_tokens(chat), self._max_tokens)
        while self.spent + self._held + most > self._budget:
            if not self._holders:  # nothing under way that could turn out cheaper
                raise BudgetError(f"not asked: the budget of ${self._budget:g} is used up")
            await asyncio.sleep(0.05)
        self._held += most
        self._holders += 1
        try:
            yield
        finally:
            self._held -= most
            self._holders -= 1

    def spend(self, chat: Chat, reply: Reply) -> None:
        """Count what a call cost."""
        estimate = {
            "prompt_tokens": round(self.prompt_tokens(chat)),
            "completion_tokens": round(self._count(reply.text)),
        }
        self.spent += self._cost(reply.usage or estimate)

    def _cost(self, usage: Mapping[str, int]) -> float:
        if self.price is None:
            return 0.0
        return self.price.of(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
