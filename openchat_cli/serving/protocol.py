"""Requests of OpenAI's protocol, checked and typed.

What is known and not supported is refused with 400; fields nobody knows are ignored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openchat_cli.core.records import Message
from openchat_cli.engine.settings import MAX_LOGPROBS, SamplingParams
from openchat_cli.serving import fields
from openchat_cli.serving.errors import ApiError, invalid
from openchat_cli.serving.fields import Body, Json

_MAX_STOPS = 4
_MAX_PROMPTS = 128  # in one request to /v1/completions


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

    messages: Sequence[Message]
    options: Options


@dataclass(frozen=True)
class CompletionRequest:
    """A request to /v1/completions: each prompt is text or token ids."""

    prompts: Sequence[str | list[int]]
    options: Options


def model_name(body: Body) -> str:
    """The model that is asked for."""
    return fields.text(fields.required(body, "model"), "model")


def parse_chat(body: Body, defaults: SamplingParams, max_choices: int) -> ChatRequest:
    """A chat request; `defaults` fill what it leaves open. Raises ApiError."""
    _refuse(body, _NOT_IN_CHAT)
    entries = fields.array(fields.required(body, "messages"), "messages")
    messages = [_message(entry, f"messages[{index}]") for index, entry in enumerate(entries)]
    options = _options(body, defaults, max_choices, {"logprobs": _chat_logprobs(body)})
    return ChatRequest(messages, options)


def parse_completion(body: Body, defaults: SamplingParams, max_choices: int) -> CompletionRequest:
    """A completion request; `defaults` fill what it leaves open. Raises ApiError."""
    _refuse(body, _NOT_IN_COMPLETIONS)
    echo = fields.boolean(body, "echo")
    options = _options(body, defaults, max_choices, _plain_logprobs(body, echo))
    best_of = fields.integer(body, "best_of", 1)
    if best_of is not None and best_of != options.n:
        raise _unsupported("best_of")
    options = dataclasses.replace(options, echo=echo)
    return CompletionRequest(_prompts(fields.required(body, "prompt")), options)


# --- messages and prompts ---


def _message(entry: Json, name: str) -> Message:
    values = fields.mapping(entry, name)
    role = fields.text(fields.required(values, "role"), f"{name}.role")
    if role == "developer":  # OpenAI's newer name
        role = "system"
    if values.get("tool_calls") or values.get("function_call"):
        raise invalid("This model can't call tools.", f"{name}.tool_calls", "unsupported_value")
    return Message(role, _content(values.get("content"), role, f"{name}.content"))


def _content(value: Json, role: str, name: str) -> str:
    if value is None and role == "assistant":
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise fields.wrong_type(name, "a string or an array of text parts", value)
    return "".join(_part(part, f"{name}[{index}]") for index, part in enumerate(value))


def _part(part: Json, name: str) -> str:
    values = fields.mapping(part, name)
    kind = fields.text(fields.required(values, "type"), f"{name}.type")
    if kind != "text":
        message = f"Invalid '{name}.type': this model reads text only, not '{kind}'."
        raise invalid(message, name, "unsupported_value")
    return fields.text(fields.required(values, "text"), f"{name}.text")


def _prompts(value: Json) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    items = fields.array(value, "prompt")
    if all(_is_token(item) for item in items):
        return [items]
    if len(items) > _MAX_PROMPTS:
        raise fields.invalid_value("prompt", f"at most {_MAX_PROMPTS} prompts in one request")
    return [_prompt(item, f"prompt[{index}]") for index, item in enumerate(items)]


def _prompt(item: Json, name: str) -> str | list[int]:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and all(_is_token(token) for token in item):
        return item
    raise fields.wrong_type(name, "a string or an array of token ids", item)


def _is_token(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- options ---


def _options(
    body: Body, defaults: SamplingParams, max_choices: int, logprobs: dict[str, int | None]
) -> Options:
    stream = fields.boolean(body, "stream")
    include_usage = False
    if body.get("stream_options") is not None:
        if not stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise invalid(message, "stream_options", "invalid_value")
        wanted = fields.mapping(body["stream_options"], "stream_options")
        include_usage = fields.boolean(wanted, "include_usage")
    return Options(
        params=_params(body, defaults, logprobs),
        n=fields.integer(body, "n", 1, max_choices) or 1,
        stream=stream,
        include_usage=include_usage,
    )


def _params(
    body: Body, defaults: SamplingParams, logprobs: dict[str, int | None]
) -> SamplingParams:
    given = {
        **logprobs,
        "temperature": fields.number(body, "temperature", 0, 2),
        "top_p": fields.number(body, "top_p", 0, 1),
        "top_k": _top_k(body),
        "min_p": fields.number(body, "min_p", 0, 1),
        "max_tokens": _max_tokens(body, least=0 if "prompt_logprobs" in logprobs else 1),
        "seed": fields.integer(body, "seed", -math.inf),
        "presence_penalty": fields.number(body, "presence_penalty", -2, 2),
        "frequency_penalty": fields.number(body, "frequency_penalty", -2, 2),
        "repetition_penalty": fields.number(body, "repetition_penalty", 0.01, 100),
        "stop": _stop(body.get("stop")),
        "stop_token_ids": _stop_token_ids(body.get("stop_token_ids")),
        "logit_bias": _logit_bias(body.get("logit_bias")),
    }
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(defaults, **said)


def _top_k(body: Body) -> int | None:
    value = fields.integer(body, "top_k", -1)
    return 0 if value == -1 else value  # -1 is off in some clients


def _chat_logprobs(body: Body) -> int | None:
    """How many of the best tokens to list beside the chosen; None where nothing is asked for."""
    count = fields.integer(body, "top_logprobs", 0, MAX_LOGPROBS)
    if fields.boolean(body, "logprobs"):
        return count or 0
    if count:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise invalid(message, "top_logprobs", "invalid_value")
    return None


def _plain_logprobs(body: Body, echo: bool) -> dict[str, int | None]:
    """The same for /v1/completions, where the echoed prompt's are given too."""
    off = body.get("logprobs") is False  # some clients mean "none"
    count = None if off else fields.integer(body, "logprobs", 0, MAX_LOGPROBS)
    found = {"logprobs": count}
    if echo and (count is not None or body.get("max_tokens") == 0):
        found["prompt_logprobs"] = count or 0
    return found


def _max_tokens(body: Body, least: int) -> int | None:
    old = fields.integer(body, "max_tokens", least)
    new = fields.integer(body, "max_completion_tokens", 1)
    if old is not None and new is not None and old != new:
        message = "'max_tokens' and 'max_completion_tokens' say different things: set one of them."
        raise invalid(message, "max_tokens", "invalid_parameter_combination")
    return old if new is None else new


def _stop(value: Json) -> tuple[str, ...] | None:
    if value is None:
        return None
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise fields.wrong_type("stop", "a string or an array of strings", value)
    if len(items) > _MAX_STOPS:
        raise fields.invalid_value("stop", f"at most {_MAX_STOPS} stop strings")
    for item in items:
        if not fields.text(item, "stop"):
            raise fields.invalid_value("stop", "a stop string must not be empty")
    return tuple(items)


def _stop_token_ids(value: Json) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_token(item) for item in value):
        raise fields.wrong_type("stop_token_ids", "an array of token ids", value)
    return tuple(value)


def _logit_bias(value: Json) -> dict[int, float] | None:
    if value is None:
        return None
    table = fields.mapping(value, "logit_bias")
    found: dict[int, float] = {}
    for key in table:
        if not (key.isascii() and key.isdecimal() and len(key) < 12):
            raise fields.invalid_value("logit_bias", "its keys must be token ids")
        bias = fields.number({"logit_bias": table[key]}, "logit_bias", -100, 100)
        if bias is not None:
            found[int(key)] = bias
    return found


# --- what is known and not supported ---


def _never(_: Json) -> bool:
    return True


def _not_text(value: Json) -> bool:
    return not (isinstance(value, dict) and value.get("type") == "text")


def _not_text_alone(value: Json) -> bool:
    return not (isinstance(value, list) and value == ["text"])


def _is_a_choice(value: Json) -> bool:
    return value not in ("none", "auto")


# field -> whether its value asks for something that is not there
_NOT_IN_CHAT: dict[str, Callable[[Json], bool]] = {
    "tools": _never,
    "functions": _never,
    "tool_choice": _is_a_choice,
    "function_call": _is_a_choice,
    "response_format": _not_text,
    "modalities": _not_text_alone,
    "audio": _never,
    "prediction": _never,
    "web_search_options": _never,
    "reasoning_effort": _never,
    "verbosity": _never,
}
_NOT_IN_COMPLETIONS: dict[str, Callable[[Json], bool]] = {
    "suffix": _never,
}


def _refuse(body: Body, table: dict[str, Callable[[Json], bool]]) -> None:
    for name, asks in table.items():
        if body.get(name) is not None and asks(body[name]):
            raise _unsupported(name)


def _unsupported(name: str) -> ApiError:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return invalid(message, name, "unsupported_parameter")
