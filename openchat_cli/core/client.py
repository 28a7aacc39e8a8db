"""The one OpenAI-compatible HTTP client: retries, a shared Retry-After gate, timeouts, the journal.

Every call that was answered is in the journal before the caller sees it, under a key made of
endpoint, model, messages, parameters and sample; a rerun takes it from there. Failures are never
recorded. Nothing here reads the environment: the key comes from the caller and is in no message.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from openchat_cli.core.errors import OpenChatError, UsageError
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.progress import SILENT, Progress

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"

_UNHEARD_TRIES = 3  # tries of an endpoint that has never answered anything
_SCOUT_SECONDS = 3.0  # how long the others wait for the first call to show what the model takes
_LONGEST_PAUSE = 30.0  # seconds between two tries that no server asked for

Body = dict[str, Any]
ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Endpoint:
    """Where calls go and how patiently."""

    url: str = OPENAI_URL
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0  # seconds for one try
    concurrency: int = 16  # calls under way at once
    attempts: int = 8  # tries of one call; waits that the server asks for do not count
    patience: float = 900.0  # seconds one call may spend in such waits

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"'{self.url}' is no URL", "such as http://127.0.0.1:18888/v1")
        if self.timeout <= 0 or self.concurrency < 1 or self.attempts < 1:
            raise UsageError("timeout, concurrency and attempts must be positive")


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


class CallError(Exception):
    """One call failed for good; the others may go on."""


class RefusedParameterError(CallError):
    """The endpoint does not take a parameter that can't be left out without changing the task."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the endpoint does not take '{name}'")
        self.name = name


class EndpointError(OpenChatError):
    """No call can succeed: wrong key, unknown model, nobody there, no quota."""


class _UnusableError(ValueError):
    """A 200 that holds no answer: cut off, empty or of another shape."""


# Left out when a model does not take them; what they ask for is a preference.
_OPTIONAL = ("temperature", "top_p", "seed")
_RENAMED = {"max_tokens": "max_completion_tokens"}
_ALSO_CALLED = {"response_format": r"json_schema|structured output"}
_NOT_TAKEN = re.compile(
    r"unsupported|not (?:be )?support|support(?:s|ed)? only|unrecogni|unknown|unexpected|extra|"
    r"not permitted|not allowed|not available|invalid parameter",
    re.IGNORECASE,
)


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
        reply = await self._deliver(chat)
        if self._journal is not None:
            row = {
                "key": self.key_of(chat),
                "model": self.model,
                "text": reply.text,
                "finish_reason": reply.finish_reason,
                "usage": reply.usage,
                "created": reply.created,
            }
            self._journal.append(row)
        return reply

    async def _deliver(self, chat: Chat) -> Reply:
        tries, waited = 0, 0.0
        async with _Scout(self):
            while True:
                body = self._body(chat)
                fault = await self._try(body, chat.may_be_empty)
                if isinstance(fault, Reply):
                    self._heard = True
                    return fault
                if fault.kind == "parameter":
                    self._learn(fault.reason, body)
                    continue
                self._scouted.set()
                if fault.kind == "wait":
                    pause = fault.pause if fault.pause is not None else _backoff(tries)
                    waited += pause
                    if waited > self.endpoint.patience:
                        raise CallError(f"still rate limited after {waited:.0f} s")
                    self._gate.close_for(pause)
                    continue
                tries += 1
                self._give_up(fault, tries)
                await asyncio.sleep(_backoff(tries))

    async def _try(self, body: Body, may_be_empty: bool) -> Reply | _Fault:
        import openai

        await self._gate.passed()
        try:
            async with asyncio.timeout(self.endpoint.timeout):
                found = await self._api.post("/chat/completions", cast_to=object, body=body)
            return _reply(found, may_be_empty)
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            return _fault(error, body)

    def _give_up(self, fault: _Fault, tries: int) -> None:
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

    def _body(self, chat: Chat) -> Body:
        """The request as this model takes it."""
        body: Body = {"model": self.model, "messages": list(chat.messages)}
        for name, value in chat.parameters.items():
            if name not in self._refused:
                body[name] = value
            elif name in _RENAMED:
                body[_RENAMED[name]] = value
            elif name not in _OPTIONAL:
                raise RefusedParameterError(name)
        return body

    def _learn(self, name: str, body: Body) -> None:
        if name in self._refused:
            return
        self._refused.add(name)
        if self._journal is not None:
            self._journal.append({"key": self._note_key + name})
        if name in _OPTIONAL:
            said = f"{self.model} does not take {name}={body[name]}: its own default holds"
            self._progress.warn(said)

    def _scrub(self, text: str) -> str:
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "…")
        return re.sub(r"\bsk-[\w*.-]{4,}", "sk-…", text)


class _Scout:
    """Lets the first call go ahead of the others, for a short while."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __aenter__(self) -> None:
        client = self._client
        if not client._scouting:
            client._scouting = True
        elif not client._scouted.is_set():
            try:
                async with asyncio.timeout(_SCOUT_SECONDS):
                    await client._scouted.wait()
            except TimeoutError:
                client._scouted.set()

    async def __aexit__(self, *_: object) -> None:
        self._client._scouted.set()


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
        raise _UnusableError("the reply is not a JSON object")
    choices = found.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise _UnusableError("the reply has no choices")
    text, finish = message.get("content"), str(choice.get("finish_reason") or "stop")
    if text is None and isinstance(message.get("refusal"), str):
        text, finish = message["refusal"], "refusal"
    if not isinstance(text, str) or not (text.strip() or may_be_empty):
        raise _UnusableError(f"the reply is empty (finish reason {finish})")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Reply(text, finish, _usage(found.get("usage")), created)


def _usage(found: object) -> dict[str, int] | None:
    if not isinstance(found, dict):
        return None
    counts = {name: found.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return {name: count for name, count in counts.items() if isinstance(count, int)} or None


# --- what went wrong ---

_Kind = Literal["parameter", "wait", "again", "unreachable", "never", "maybe-fatal", "fatal"]


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a try failed and what follows; `reason` is the parameter's name for "parameter"."""

    kind: _Kind
    reason: str
    hint: str | None = None
    pause: float | None = None


def _fault(error: Exception, body: Body) -> _Fault:
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_fault(error, body)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return _Fault("again", "no answer in time")
    if isinstance(error, openai.APIConnectionError):
        hint = "is the server running, and the URL right (such as http://127.0.0.1:18888/v1)?"
        reason = f"can't connect ({type(error.__cause__ or error).__name__})"
        return _Fault("unreachable", reason, hint)
    if isinstance(error, _UnusableError):
        return _Fault("again", str(error))
    return _Fault("again", f"the reply can't be read ({type(error).__name__})")


def _status_fault(error: openai.APIStatusError, body: Body) -> _Fault:
    status = error.status_code
    reason = f"HTTP {status}: {_said(error)}"
    if status in (400, 422):
        name = _refused_parameter(error, body)
        return _Fault("never", reason) if name is None else _Fault("parameter", name)
    if status == 401:
        return _Fault("fatal", "the key was refused (HTTP 401)", "check the API key")
    if error.code == "insufficient_quota":
        return _Fault("fatal", "the account's quota is used up", "check the account's billing")
    if status in (403, 404):
        hint = "check the model's name, and that the URL ends as the server wants it (often /v1)"
        return _Fault("maybe-fatal", reason, hint)
    pause = _retry_after(error.response.headers)
    if status == 429 or (pause is not None and status >= 500):
        return _Fault("wait", reason, pause=pause)
    return _Fault("again" if status >= 500 or status in (408, 409, 425) else "never", reason)


def _said(error: openai.APIStatusError) -> str:
    found = error.body
    text = found.get("message") if isinstance(found, dict) else found
    return " ".join(str(text or "no reason given").split())[:300]


def _refused_parameter(error: openai.APIStatusError, body: Body) -> str | None:
    """Which of our parameters the error says the model does not take."""
    said = f"{_said(error)} {error.code or ''}"
    sent = [name for name in body if name not in ("model", "messages")]
    known = [name for name in sent if name in (*_OPTIONAL, *_RENAMED, "response_format")]
    named = str(error.param or "").split(".")[0]
    if not _NOT_TAKEN.search(said) and named != "response_format":
        return None
    if named in known:
        return named
    for name in known:
        if re.search(rf"\b(?:{name}|{_ALSO_CALLED.get(name, name)})\b", said, re.IGNORECASE):
            return name
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or a date)."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            when = email.utils.parsedate_tz(value)
            if when is not None:
                return max(0.0, email.utils.mktime_tz(when) - time.time())
    return None


# --- many at once ---


async def spread(
    items: Iterable[ItemT], work: Callable[[ItemT], Awaitable[None]], workers: int
) -> None:
    """Run `work` on every item, at most `workers` at a time; the first exception stops all.

    Items are taken one by one as workers get free, so that memory does not grow with their number.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.create_task(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
