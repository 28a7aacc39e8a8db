"""What an endpoint's failures mean: which are worth another try, and what they ask for."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import openai

Body = dict[str, Any]


class UnusableError(ValueError):
    """A 200 that holds no answer: cut off, empty or of another shape; `final`: so will the next."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


# Left out when a model does not take them; what they ask for is a preference.
OPTIONAL = ("temperature", "top_p", "seed")
RENAMED = {"max_tokens": "max_completion_tokens"}
_NAMES = {"response_format": r"response_format|json_schema|structured output|guided|grammar"}
_NOT_TAKEN = re.compile(
    r"unsupported|not (?:be )?support|support(?:s|ed)? only|unrecogni|unknown|unexpected|extra|"
    r"not permitted|not allowed|not available|invalid parameter",
    re.IGNORECASE,
)
_NOT_THE_FORMAT = ("context_length_exceeded", "content_filter", "content_policy_violation")
_NOBODY_THERE = ("ConnectError", "UnsupportedProtocol", "InvalidURL", "LocalProtocolError")

Kind = Literal["parameter", "wait", "again", "unreachable", "never", "maybe-fatal", "fatal"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a try failed and what follows; `reason` is the parameter's name for "parameter"."""

    kind: Kind
    reason: str
    hint: str | None = None
    pause: float | None = None


def fault_of(error: Exception, body: Body, *, heard: bool = True) -> Fault:
    """What a failed try means; `heard`: whether the endpoint has answered anything before."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_fault(error, body, heard)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Fault("again", "no answer in time")
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__ or error).__name__
        if cause not in _NOBODY_THERE:
            return Fault("again", f"the connection broke ({cause})")
        hint = "is the server running, and the URL right (such as http://127.0.0.1:18888/v1)?"
        return Fault("unreachable", "can't connect", hint)
    if isinstance(error, UnusableError):
        return Fault("never" if error.final else "again", str(error))
    return Fault("again", f"the reply can't be read ({type(error).__name__})")


def _status_fault(error: openai.APIStatusError, body: Body, heard: bool) -> Fault:
    status = error.status_code
    reason = f"HTTP {status}: {_said(error)}"
    if status in (400, 422):
        name = _refused_parameter(error, body, heard)
        return Fault("never", reason) if name is None else Fault("parameter", name)
    if status == 401:
        return Fault("fatal", "the key was refused (HTTP 401)", "check the API key")
    if "insufficient_quota" in (error.code, error.type):
        return Fault("fatal", "the account's quota is used up", "check the account's billing")
    if status in (403, 404):
        hint = "check the model's name, and that the URL ends as the server wants it (often /v1)"
        return Fault("maybe-fatal", reason, hint)
    pause = _retry_after(error.response.headers)
    if status == 429 or (pause is not None and status >= 500):
        return Fault("wait", reason, pause=pause)
    return Fault("again" if status >= 500 or status in (408, 409, 425) else "never", reason)


def _said(error: openai.APIStatusError) -> str:
    found = error.body
    text = found.get("message") if isinstance(found, dict) else found
    return " ".join(str(text or "no reason given").split())[:300]


def _refused_parameter(error: openai.APIStatusError, body: Body, heard: bool) -> str | None:
    """Which of our parameters the error says the model does not take."""
    said = f"{_said(error)} {error.code or ''}"
    sent = [name for name in (*OPTIONAL, *RENAMED, "response_format") if name in body]
    blamed = str(error.param or "").split(".")[0]
    if blamed in sent and (_NOT_TAKEN.search(said) or blamed == "response_format"):
        return blamed
    for name in sent:
        pattern = _NAMES.get(name, rf"\b{name}\b")
        if re.search(pattern, said, re.IGNORECASE) and (
            _NOT_TAKEN.search(said) or name == "response_format"
        ):
            return name
    # Small servers refuse a format without a word about it: ask again without, before giving up.
    if "response_format" in sent and not heard and error.code not in _NOT_THE_FORMAT:
        return "response_format"
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
