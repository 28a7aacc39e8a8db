"""What goes over the wire to an upstream, and how what comes back is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openchat_cli.core.records import Message
from openchat_cli.engine.generation import TokenLogprob
from openchat_cli.engine.settings import SamplingParams
from openchat_cli.serving.errors import ApiError

Json = Any
Body = dict[str, Json]

# An event holds a few tokens; with an echoed prompt and its probabilities, some megabytes.
_MAX_EVENT = 64 * 2**20
_TOKEN_ID = re.compile(r"token_id:(\d{1,9})")
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")


class BrokenAnswerError(Exception):
    """The upstream's answer is cut off or not what the protocol says."""


class UpstreamPrompt(list[int]):
    """A prompt of token ids, or one that the upstream renders itself: then the list is empty and
    `messages` or `text` is set. `echo`: it comes back before the answer.
    """

    def __init__(
        self,
        ids: Sequence[int] = (),
        *,
        messages: Sequence[Message] | None = None,
        text: str | None = None,
        echo: bool = False,
    ) -> None:
        super().__init__(ids)
        self.messages = messages
        self.text = text
        self.echo = echo

    def shown(self) -> str:
        """What is asked, for people."""
        if self.messages is not None:
            return "\n".join(f"{message.role}: {message.content}" for message in self.messages)
        return str(list(self)) if self.text is None else self.text


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token as the upstream spells it."""

    name: str
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class SpelledLogprob(TokenLogprob):
    """A token's probability where only its spelling is known, not its id.

    `known` is false for a prompt's first token, which nothing predicted.
    """

    name: str = ""
    data: bytes = b""
    best: tuple[Alternative, ...] | None = None
    offset: int = 0
    known: bool = True


# --- asking ---


def request(
    prompt: Sequence[int], params: SamplingParams, model: str, eot_id: int | None
) -> tuple[str, Body]:
    """The path below the base URL, and the body. Only what differs from a neutral setting is sent,
    so that servers which know OpenAI's own parameters alone are content.
    """
    body: Body = {
        "model": model,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stops = [*params.stop_token_ids, *([] if eot_id is None else [eot_id])]
    biases = {str(token): bias for token, bias in params.logit_bias.items()}
    optional: list[tuple[str, Json, Json]] = [
        ("top_k", params.top_k, 0),
        ("min_p", params.min_p, 0.0),
        ("seed", params.seed, None),
        ("stop", list(params.stop), []),
        ("stop_token_ids", stops, []),
        ("presence_penalty", params.presence_penalty, 0.0),
        ("frequency_penalty", params.frequency_penalty, 0.0),
        ("repetition_penalty", params.repetition_penalty, 1.0),
        ("logit_bias", biases, {}),
    ]
    body |= {name: value for name, value, neutral in optional if value != neutral}
    asked = prompt if isinstance(prompt, UpstreamPrompt) else UpstreamPrompt(prompt)
    if asked.messages is not None:
        body["messages"] = [{"role": m.role, "content": m.content} for m in asked.messages]
        if params.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": params.logprobs}
        return "/chat/completions", body
    body["prompt"] = list(asked) if asked.text is None else asked.text
    if asked.echo:
        body["echo"] = True
    if params.logprobs is not None:
        body["logprobs"] = params.logprobs
    return "/completions", body


# --- reading ---


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event says of the one choice that was asked for."""

    text: str = ""
    logprobs: tuple[SpelledLogprob, ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Json] | None = None


class Events:
    """Cuts a stream of bytes into the data of its server-sent events.

    By bytes, since U+2028 and its like, which many line readers split at, may stand in JSON.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The events that are whole now; BrokenAnswerError for one without end."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                data, self._data, self._size = b"\n".join(self._data), [], 0
                yield data
        if len(self._rest) + self._size > _MAX_EVENT:
            raise BrokenAnswerError("an event without end")


def piece(data: bytes, *, chat: bool, token_bytes: Callable[[int], bytes] | None = None) -> Piece:
    """One event read; `token_bytes` gives the bytes of tokens that are named by their ids.

    Raises BrokenAnswerError for what is not an event of the protocol, ApiError for one that tells
    of a failure.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenAnswerError("an event that is no JSON") from None
    if not isinstance(value, dict):
        raise BrokenAnswerError("an event that is no object")
    if value.get("error"):
        raise told_failure(value)
    choices = value.get("choices")
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else None
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise BrokenAnswerError("an event without choices")
    if not choices:
        return Piece(usage=usage)
    choice = choices[0]
    said = choice.get("delta") if chat else choice
    text = said.get("content" if chat else "text") if isinstance(said, dict) else None
    reason = choice.get("finish_reason")
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise BrokenAnswerError("an event with a choice of another shape")
    try:
        listed = _listed(choice.get("logprobs"), chat, token_bytes)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise BrokenAnswerError("log-probabilities of another shape") from None
    return Piece(whole_text(text or ""), tuple(listed), reason, usage)


def whole_text(text: str) -> str:
    """The text with each lone surrogate, which JSON may hold and UTF-8 can't, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def told_failure(value: Body) -> ApiError:
    """What a stream's error event says, for the client. Its words may name what the client has no
    business with, so only the kind goes on.
    """
    error = value["error"]
    code = error.get("code") if isinstance(error, dict) else None
    if code == "shutting_down":
        return ApiError(503, "The upstream server is shutting down.", code="upstream_unavailable")
    return ApiError(502, "The upstream server failed in the middle.", code="upstream_failed")


def _listed(
    value: Json, chat: bool, token_bytes: Callable[[int], bytes] | None
) -> Iterator[SpelledLogprob]:
    if not value:
        return
    if chat:
        for entry in value.get("content") or ():
            top = tuple(_alternative(one) for one in entry.get("top_logprobs") or ())
            own = _alternative(entry)
            yield SpelledLogprob(-1, own.logprob, (), name=own.name, data=own.data, best=top)
        return
    tokens = value["tokens"]
    count = len(tokens)
    logprobs, tops = value["token_logprobs"], value.get("top_logprobs") or [None] * count
    offsets = value.get("text_offset") or [0] * count
    for name, logprob, top, offset in zip(tokens, logprobs, tops, offsets, strict=True):
        token, data = _spelling(name, token_bytes)
        yield SpelledLogprob(
            token,
            0.0 if logprob is None else float(logprob),
            (),
            name=name,
            data=data,
            best=None if top is None else tuple(_best(top, token_bytes)),
            offset=int(offset),
            known=logprob is not None,
        )


def _alternative(entry: Body) -> Alternative:
    name = whole_text(entry["token"])
    data = entry.get("bytes")
    return Alternative(
        name, name.encode() if data is None else bytes(data), float(entry["logprob"])
    )


def _best(
    top: Mapping[str, float], token_bytes: Callable[[int], bytes] | None
) -> Iterator[Alternative]:
    for name, logprob in sorted(top.items(), key=lambda item: -item[1]):
        yield Alternative(name, _spelling(name, token_bytes)[1], float(logprob))


def _spelling(name: str, token_bytes: Callable[[int], bytes] | None) -> tuple[int, bytes]:
    """A token's id, -1 where it is not told, and its bytes."""
    found = _TOKEN_ID.fullmatch(name)
    if found and token_bytes is not None:
        token = int(found[1])
        return token, token_bytes(token)
    partial = _BYTES.fullmatch(name)
    if partial:
        return -1, bytes.fromhex(partial[1].replace("\\x", ""))
    return -1, whole_text(name).encode()
