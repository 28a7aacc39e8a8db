"""How a request and its answer look to an upstream: prompts that it may render itself, and
probabilities of tokens that are known by their spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openchat_cli.core import templates
from openchat_cli.core.records import Message
from openchat_cli.engine.generation import Completion, Delta
from openchat_cli.serving.backend import Backend
from openchat_cli.serving.choices import Choice, Said
from openchat_cli.serving.protocol import Options
from openchat_cli.serving.upstream import UpstreamEngine
from openchat_cli.serving.upstream_wire import Alternative, SpelledLogprob, UpstreamPrompt

_LEAST = -9999.0  # JSON has no infinity


def chat_prompt(engine: Backend, messages: Sequence[Message]) -> Sequence[int]:
    """The conversation's ids, or the conversation itself for an upstream that renders it."""
    if isinstance(engine, UpstreamEngine) and not engine.renders:
        return UpstreamPrompt(messages=messages)
    return templates.prompt(engine.kind, engine.tokenizer, messages)


def plain_prompts(
    engine: Backend, prompts: Sequence[str | list[int]], *, echo: bool
) -> list[Sequence[int]]:
    """The ids of text prompts, BOS before them; what an upstream needs besides goes with them."""
    if isinstance(engine, UpstreamEngine):
        return [_for_upstream(engine, prompt, echo) for prompt in prompts]
    return [_ids(engine, prompt) for prompt in prompts]


def prompt_text(engine: Backend, prompt: Sequence[int]) -> str:
    """A prompt for the log: without control tokens, or as the upstream gets it."""
    if isinstance(engine, UpstreamEngine) and not engine.renders:
        return prompt.shown() if isinstance(prompt, UpstreamPrompt) else str(list(prompt))
    return b"".join(map(engine.tokenizer.token_bytes, prompt)).decode("utf-8", "replace")


def _for_upstream(engine: UpstreamEngine, prompt: str | list[int], echo: bool) -> UpstreamPrompt:
    if isinstance(prompt, str) and not engine.renders:
        return UpstreamPrompt(text=prompt, echo=echo)
    return UpstreamPrompt(_ids(engine, prompt), echo=echo)


def _ids(engine: Backend, prompt: str | list[int]) -> list[int]:
    if not isinstance(prompt, str):
        return prompt
    start = [] if engine.tokenizer.bos_id is None else [engine.tokenizer.bos_id]
    return [*start, *engine.tokenizer.encode(prompt)]


def choice_of(
    engine: Backend, options: Options, prompt: Sequence[int], text: str | None, *, chat: bool
) -> Choice | UpstreamChoice:
    """One choice of a reply."""
    if isinstance(engine, UpstreamEngine):
        return UpstreamChoice(engine, options, chat=chat)
    return Choice(engine, options, prompt, text, chat=chat)


class UpstreamChoice:
    """As choices.Choice: the echoed prompt is part of what the upstream says."""

    def __init__(self, engine: UpstreamEngine, options: Options, *, chat: bool) -> None:
        self._chat = chat
        self._wanted = options.params.logprobs
        # A chat that the upstream renders leaves these out itself.
        ends = {engine.tokenizer.eot_id, *options.params.stop_token_ids}
        self._ends = ends if engine.renders else set()
        self._eot = engine.kind.eot if engine.renders else None
        # Rendered here, a chat's answer comes as the continuation of a text.
        self._at_start = chat and engine.drops_space

    def take(self, delta: Delta) -> Said:
        """What a delta adds to the choice."""
        if self._wanted is None:
            return delta.text, None
        items = [item for item in delta.logprobs if isinstance(item, SpelledLogprob)]
        listed = self._content(items) if self._chat else _plain(items)
        return delta.text, listed if items and any(listed.values()) else None

    def whole(self, completion: Completion) -> Said:
        """The whole choice."""
        text, logprobs = self.take(Delta(completion.text, None, completion.logprobs or ()))
        if self._wanted is not None and logprobs is None:
            logprobs = self._content(()) if self._chat else _plain(())
        return text, logprobs

    def _content(self, items: Sequence[SpelledLogprob]) -> dict[str, Any]:
        entries = [
            self._entry(item)
            for item in items
            if item.token not in self._ends and item.name != self._eot
        ]
        return {"content": entries, "refusal": None}

    def _entry(self, item: SpelledLogprob) -> dict[str, Any]:
        top = [self._one(one) for one in (item.best or ())[: self._wanted]]
        own = self._one(Alternative(item.name, item.data, item.logprob))
        self._at_start = self._at_start and not item.data
        return {**own, "top_logprobs": top}

    def _one(self, one: Alternative) -> dict[str, Any]:
        data = one.data.removeprefix(b" ") if self._at_start else one.data
        name = data.decode("utf-8", "replace")
        return {"token": name, "logprob": max(one.logprob, _LEAST), "bytes": list(data)}


def _plain(items: Sequence[SpelledLogprob]) -> dict[str, Any]:
    return {
        "tokens": [item.name for item in items],
        "token_logprobs": [max(item.logprob, _LEAST) if item.known else None for item in items],
        "top_logprobs": [
            None if item.best is None else {one.name: one.logprob for one in item.best}
            for item in items
        ],
        "text_offset": [item.offset for item in items],
    }
