"""The one OpenAI-compatible HTTP client: retries, a shared Retry-After gate, timeouts, the journal.

Every call that was answered is in the journal before the caller sees it, under a key made of
endpoint, model, messages, parameters and sample; a rerun takes it from there. Failures are never
recorded. Nothing here reads the environment: the key comes from the caller and is in no message.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

from openchat_cli.core.endpoint import Endpoint
from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.faults import OPTIONAL, RENAMED, Body, Fault, UnusableError, fault_of
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.progress import SILENT, Progress

_UNHEARD_TRIES = 3  # tries of an endpoint that has never answered anything
_SCOUT_SECONDS = 3.0  # how long the others wait for the first call to show what the model takes
_LONGEST_PAUSE = 30.0  # seconds between two tries that no server asked for


@dataclass(frozen=True)
class Chat:
    """One request. `sample` tells apart requests that are otherwise equal.

    `may_be_empty`: an empty text is an answer (a model may say nothing); else it is asked again.
    """

    messages: Sequence[Mapping[str, str]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; `usage` holds prompt_tokens and completion_tokens where the server tells."""

    text: str
    finish_reason: str
    usage: dict[str, int] | None
    created: str
    recorded: bool = False  # taken from the journal: no call was made


ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Call(Generic[ResultT]):
    """One request of any kind: where it goes, what it says, and how its reply is read.

    `read` raises UnusableError for a reply that holds no answer. Of `parameters` those are left
    out that the model turns out not to take, where that changes no more than a preference.
    """

    path: str
    fields: Mapping[str, Any]
    read: Callable[[object], ResultT]
    parameters: Mapping[str, Any] = field(default_factory=dict)


class CallError(Exception):
    """One call failed for good; the others may go on."""


class RefusedParameterError(CallError):
    """The endpoint does not take a parameter that can't be left out without changing the task."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the endpoint does not take '{name}'")
        self.name = name


class EndpointError(OpenChatError):
    """No call can succeed: wrong key, unknown model, nobody there, no quota."""


class Client:
    """Calls to one model at one endpoint; an async context manager.

    Parameters that the model does not take are found out from its first errors: the calls behind
    wait for the first one, so that each refusal is seen once, and the journal remembers it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        journal: Journal | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self._journal = journal
        self._progress = progress
        self._gate = _Gate()
        self._heard = False  # the endpoint has answered at least once
        self._scouting = False
        self._scouted = asyncio.Event()
        self._refused: set[str] = set()
        self._note_key = f"refused by {model} at {endpoint.url}: "
        for key in journal.rows if journal else ():
            if key.startswith(self._note_key):
                self._refused.add(key.removeprefix(self._note_key))

    async def __aenter__(self) -> Self:
        import openai

        self._api = openai.AsyncOpenAI(
            base_url=self.endpoint.url,
            api_key=self.endpoint.key or "none",
            max_retries=0,
            timeout=self.endpoint.timeout,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    def key_of(self, chat: Chat) -> str:
        """The journal key of a request: equal keys mean equal requests."""
        parts = {
            "endpoint": self.endpoint.url,
            "model": self.model,
            "messages": [dict(message) for message in chat.messages],
            "parameters": dict(chat.parameters),
            "sample": chat.sample,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def takes(self, name: str) -> bool:
        """Whether a parameter has not been refused, as far as is known."""
        return name not in self._refused

    def recorded(self, chat: Chat) -> Reply | None:
        """The answer a request already got, if the journal has it."""
        if self._journal is None or (row := self._journal.rows.get(self.key_of(chat))) is None:
            return None
        usage, created = row.get("usage"), row["created"]
        return Reply(row["text"], row["finish_reason"], usage, created, recorded=True)

    async def chat(self, chat: Chat) -> Reply:
        """The reply, from the journal or from the endpoint.

        Raises CallError when this call failed for good and EndpointError when every call would.
        """
        if (known := self.recorded(chat)) is not None:
            return known
        read = functools.partial(_reply, may_be_empty=chat.may_be_empty)
        fields = {"messages": list(chat.messages)}
        reply = await self.deliver(Call("/chat/completions", fields, read, chat.parameters))
        if self._journal is not None:
            row = {
                "key": self.key_of(chat),
                "model": self.model,
                "text": reply.text,
                "finish_reason": reply.finish_reason,
                "usage": reply.usage,
                "created": reply.created,
            }
            # In a thread, so that a slow disk holds up this call only; one write is one whole line.
            await asyncio.to_thread(self._journal.append, row)
        return reply

    async def deliver(self, call: Call[ResultT]) -> ResultT:
        """What a call of any kind brings, asked again as long as that is worth it; no journal.

        Raises as `chat`.
        """
        tries, waits, waited = 0, 0, 0.0
        while True:
            found = await self._fitted(call)
            if not isinstance(found, Fault):
                self._heard = True
                return found
            if found.kind == "wait":
                waits += 1
                pause = found.pause if found.pause is not None else _backoff(waits)
                waited += pause
                if waited > self.endpoint.patience:
                    raise CallError(
                        f"{self._scrub(found.reason)} (after {waited:.0f} s of waiting)"
                    )
                self._gate.close_for(pause)
            else:
                tries += 1
                self._give_up(found, tries)
                await asyncio.sleep(_backoff(tries))

    async def _fitted(self, call: Call[ResultT]) -> ResultT | Fault:
        """One try with the parameters that the model takes, as far as they are known by then."""
        async with self._after_the_first():
            while True:
                body = self._body(call)
                found = await self._try(call, body)
                if not isinstance(found, Fault) or found.kind != "parameter":
                    return found
                self._learn(found.reason, body)

    @contextlib.asynccontextmanager
    async def _after_the_first(self) -> AsyncIterator[None]:
        """Hold back, for a short while, until the first call has shown what the model takes."""
        if self._scouting and not self._scouted.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SCOUT_SECONDS):
                    await self._scouted.wait()
            self._scouted.set()
        self._scouting = True
        try:
            yield
        finally:
            self._scouted.set()

    async def _try(self, call: Call[ResultT], body: Body) -> ResultT | Fault:
        import openai

        await self._gate.passed()
        try:
            async with asyncio.timeout(self.endpoint.timeout):
                found = await self._api.post(call.path, cast_to=object, body=body)
            return call.read(found)
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            return fault_of(error, body, heard=self._heard)

    def _give_up(self, fault: Fault, tries: int) -> None:
        """Raise where another try is useless."""
        reason = self._scrub(fault.reason)
        where = f"{self.model} at {self.endpoint.url}"
        if fault.kind == "fatal" or (fault.kind == "maybe-fatal" and not self._heard):
            raise EndpointError(f"{where}: {reason}", fault.hint)
        if fault.kind in ("never", "maybe-fatal"):
            raise CallError(reason)
        if fault.kind == "unreachable" and not self._heard and tries >= _UNHEARD_TRIES:
            raise EndpointError(f"{where}: {reason}", fault.hint)
        if tries >= self.endpoint.attempts:
            raise CallError(f"{reason} ({tries} tries)")

    def _body(self, call: Call[ResultT]) -> Body:
        """The request as this model takes it."""
        body: Body = {"model": self.model, **call.fields}
        for name, value in call.parameters.items():
            if name not in self._refused:
                body[name] = value
            elif name in RENAMED:
                body[RENAMED[name]] = value
            elif name not in OPTIONAL:
                raise RefusedParameterError(name)
        return body

    def _learn(self, name: str, body: Body) -> None:
        if name in self._refused:
            return
        self._refused.add(name)
        if self._journal is not None:
            self._journal.append({"key": self._note_key + name})
        if name in OPTIONAL:
            said = f"{self.model} does not take {name}={body[name]}: its own default holds"
            self._progress.warn(said)

    def _scrub(self, text: str) -> str:
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "…")
        return re.sub(r"\bsk-[\w*.-]{4,}", "sk-…", text)


class _Gate:
    """Closed for everybody while the server asks for a pause."""

    def __init__(self) -> None:
        self._until = 0.0

    def close_for(self, seconds: float) -> None:
        self._until = max(self._until, time.monotonic() + seconds)

    async def passed(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            # A little spread, so that the calls do not come back in one instant.
            await asyncio.sleep(left + random.uniform(0, min(0.25, 0.1 * left + 0.01)))


def _backoff(tries: int) -> float:
    pause = min(_LONGEST_PAUSE, 0.25 * 2.0**tries)
    return pause * random.uniform(0.5, 1.0)


# --- what came back ---


def _reply(found: object, may_be_empty: bool) -> Reply:
    if not isinstance(found, dict):
        raise UnusableError("the reply is not a JSON object")
    choices = found.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UnusableError("the reply has no choices")
    text, finish = message.get("content"), str(choice.get("finish_reason") or "stop")
    if text is None and isinstance(message.get("refusal"), str):
        text, finish = message["refusal"], "refusal"
    if not isinstance(text, str) or not (text.strip() or may_be_empty):
        # Where the tokens ran out before the first word, they would run out again.
        raise UnusableError(
            f"the reply is empty (finish reason {finish})", final=finish == "length"
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Reply(text, finish, _usage(found.get("usage")), created)


def _usage(found: object) -> dict[str, int] | None:
    if not isinstance(found, dict):
        return None
    counts = {name: found.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return {name: count for name, count in counts.items() if isinstance(count, int)} or None
