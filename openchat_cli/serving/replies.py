"""Response bodies of OpenAI's protocol."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from openchat_cli.engine.generation import Completion

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer to one request; every chunk and body of it shares id and time."""

    model: str
    chat: bool
    id: str
    include_usage: bool = False  # a chunk of its own at the end, and null in every other
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def new(cls, model: str, *, chat: bool, include_usage: bool = False) -> Reply:
        """A reply with a fresh id."""
        prefix = "chatcmpl-" if chat else "cmpl-"
        return cls(model, chat, prefix + uuid.uuid4().hex, include_usage)

    def whole(self, choices: Sequence[Body], usage: Body) -> Body:
        """The body of a request without `stream`."""
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": usage}

    def choice(self, index: int, text: str, logprobs: Body | None, reason: str) -> Body:
        """One whole answer of it."""
        if self.chat:
            message = {"role": "assistant", "content": text, "refusal": None}
            said: Body = {"message": message}
        else:
            said = {"text": text}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": reason}

    def role_chunk(self, index: int) -> Body:
        """The first chunk of a chat choice."""
        return self._chunk(index, {"delta": {"role": "assistant", "content": ""}})

    def text_chunk(self, index: int, text: str, logprobs: Body | None) -> Body:
        """Some more text."""
        said: Body = {"delta": {"content": text}} if self.chat else {"text": text}
        return self._chunk(index, {**said, "logprobs": logprobs})

    def finish_chunk(self, index: int, reason: str) -> Body:
        """The last chunk of a choice."""
        return self._chunk(index, {"delta": {}} if self.chat else {"text": ""}, reason)

    def usage_chunk(self, usage: Body) -> Body:
        """The chunk after all choices, where usage was asked for."""
        return {**self._head(self._chunk_kind()), "choices": [], "usage": usage}

    def _chunk(self, index: int, said: Body, reason: str | None = None) -> Body:
        choice = {"index": index, "logprobs": None, **said, "finish_reason": reason}
        chunk = {**self._head(self._chunk_kind()), "choices": [choice]}
        return {**chunk, "usage": None} if self.include_usage else chunk

    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> Body:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(prompt_tokens: int, completions: Sequence[Completion]) -> Body:
    """Token counts: the prompt is counted once, whatever `n`."""
    answered = sum(completion.completion_tokens for completion in completions)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answered,
        "total_tokens": prompt_tokens + answered,
    }


def model_card(model: str, created: int) -> Body:
    """One model, as /v1/models lists it."""
    return {"id": model, "object": "model", "created": created, "owned_by": "openchat"}


def event(body: Body) -> bytes:
    """One server-sent event."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
