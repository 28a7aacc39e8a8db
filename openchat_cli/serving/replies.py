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

    def whole(self, choices: Sequence[Completion], usage: Body) -> Body:
        """The body of a request without `stream`."""
        kind = "chat.completion" if self.chat else "text_completion"
        listed = [self._choice(index, choice) for index, choice in enumerate(choices)]
        return {**self._head(kind), "choices": listed, "usage": usage}

    def _choice(self, index: int, completion: Completion) -> Body:
        if self.chat:
            message = {"role": "assistant", "content": completion.text, "refusal": None}
            said: Body = {"message": message}
        else:
            said = {"text": completion.text}
        return {
            "index": index,
            **said,
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }

    def role_chunk(self, index: int) -> Body:
        """The first chunk of a chat choice."""
        return self._chunk(index, {"delta": {"role": "assistant", "content": ""}})

    def text_chunk(self, index: int, text: str) -> Body:
        """Some more text."""
        return self._chunk(index, {"delta": {"content": text}} if self.chat else {"text": text})

    def finish_chunk(self, index: int, reason: str) -> Body:
        """The last chunk of a choice."""
        return self._chunk(index, {"delta": {}} if self.chat else {"text": ""}, reason)

    def usage_chunk(self, usage: Body) -> Body:
        """The chunk after all choices, where usage was asked for."""
        return {**self._head(self._chunk_kind()), "choices": [], "usage": usage}

    def _chunk(self, index: int, said: Body, reason: str | None = None) -> Body:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
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
