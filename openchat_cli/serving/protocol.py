"""Requests of OpenAI's protocol, checked and typed.

What is known and not supported is refused with 400; fields nobody knows are ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openchat_cli.core.records import Message
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving import fields, kinds
from openchat_cli.serving.errors import ApiError, invalid
from openchat_cli.serving.fields import Body
from openchat_cli.serving.kinds import Table
from openchat_cli.serving.tables import Prompt


@dataclass(frozen=True)
class Options:
    """What chat and completion requests share."""

    params: SamplingParams
    n: int
    stream: bool
    include_usage: bool
    echo: bool = False  # the prompt before the answer


@dataclass(frozen=True)
class ChatRequest:
    """A request to /v1/chat/completions."""

    model: str | None  # the one there is, where the server of 2023 is spoken to
    messages: Sequence[Message]
    options: Options


@dataclass(frozen=True)
class CompletionRequest:
    """A request to /v1/completions: each prompt is text or token ids."""

    model: str
    prompts: Sequence[Prompt]
    options: Options


def parse_chat(body: Body, table: Table, defaults: SamplingParams) -> ChatRequest:
    """A chat request; `defaults` fill what it leaves open. Raises ApiError."""
    found = kinds.read(body, table)
    messages = found.get("messages", found.get("conversation"))
    if messages is None:
        raise fields.missing("messages")
    if "messages" in found and "conversation" in found:
        raise _contradiction("messages", "conversation")
    if "model" not in found and "conversation" not in found:
        raise fields.missing("model")
    count = found.get("top_logprobs", 0)
    logprobs = count if found.get("logprobs") else None
    if count and logprobs is None:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise invalid(message, "top_logprobs", "invalid_value")
    return ChatRequest(
        found.get("model"), messages, _options(found, defaults, {"logprobs": logprobs})
    )


def parse_completion(body: Body, table: Table, defaults: SamplingParams) -> CompletionRequest:
    """A completion request; `defaults` fill what it leaves open. Raises ApiError."""
    found = kinds.read(body, table)
    if found.get("best_of", found.get("n", 1)) != found.get("n", 1):
        raise fields.unsupported("best_of")
    echo = found.get("echo", False)
    logprobs = found.get("logprobs")
    looked_at = {"logprobs": logprobs}
    # Without an answer there is only the prompt to look at.
    if (echo and logprobs is not None) or _most(found) == 0:
        looked_at["prompt_logprobs"] = logprobs or 0
    options = dataclasses.replace(_options(found, defaults, looked_at), echo=echo)
    return CompletionRequest(found["model"], found["prompt"], options)


def _options(
    found: dict[str, Any], defaults: SamplingParams, logprobs: dict[str, int | None]
) -> Options:
    stream = found.get("stream", False)
    if "stream_options" in found and not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise invalid(message, "stream_options", "invalid_value")
    return Options(
        params=_params(found, defaults, logprobs),
        n=found.get("n", 1),
        stream=stream,
        include_usage=found.get("stream_options", {}).get("include_usage", False),
    )


_SAME_NAME = (
    *("temperature", "top_p", "min_p", "seed", "logit_bias"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
)


def _params(
    found: dict[str, Any], defaults: SamplingParams, logprobs: dict[str, int | None]
) -> SamplingParams:
    said = {name: found[name] for name in _SAME_NAME if name in found}
    said |= {name: tuple(found[name]) for name in ("stop", "stop_token_ids") if name in found}
    if "top_k" in found:
        said["top_k"] = max(0, found["top_k"])  # -1 is off in some clients
    most = _most(found)
    if most is not None:
        said["max_tokens"] = most
    said |= {name: count for name, count in logprobs.items() if count is not None}
    return dataclasses.replace(defaults, **said)


def _most(found: dict[str, Any]) -> int | None:
    """The limit to new tokens, by whichever of its names."""
    said: dict[str, int] = {name: found[name] for name in _MAX_TOKENS if name in found}
    if len(set(said.values())) > 1:
        raise _contradiction(*list(said)[:2])
    return next(iter(said.values()), None)


_MAX_TOKENS = ("max_tokens", "max_completion_tokens", "max_generated_tokens")


def _contradiction(first: str, second: str) -> ApiError:
    message = f"'{first}' and '{second}' say the same: set one of them."
    return invalid(message, first, "invalid_parameter_combination")
