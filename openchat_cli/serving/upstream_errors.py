"""What an upstream's refusals mean to our client.

What the client can mend (400, 413, 429) is passed on; what lies between this server and the
upstream is 502, 503 or 504, without the upstream's words, which may name keys or machines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from openchat_cli.serving.errors import ApiError, FailedCompletion, invalid

_MOST = 1000  # characters of an upstream's message that are passed on
_RETRY_AFTER = re.compile(r"[\w ,:+-]{1,64}", re.ASCII)
_SECONDS = "5"  # to wait where the upstream does not say
_CODE = re.compile(r"[a-z_]{1,64}")


def failed(error: ApiError, prompt_tokens: int, *, text: str = "") -> FailedCompletion:
    """The end of a request that failed."""
    return FailedCompletion(text, (), "error", prompt_tokens, 0, error=error.message, failure=error)


def refused(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error for an answer other than 200."""
    if status in (400, 413, 422):
        return _passed_on(status, body)
    if status in (429, 503):
        return _busy(status, headers)
    if status in (401, 403):
        message = "The upstream server does not accept this server's key."
        return ApiError(502, message, code="upstream_refused")
    if status == 404:
        message = "The upstream server does not have the model, or not this path."
        return ApiError(502, message, code="upstream_refused")
    if status in (408, 504):
        return timed_out()
    return ApiError(502, f"The upstream server failed (HTTP {status}).", code="upstream_failed")


def unreachable() -> ApiError:
    """Nobody listens there."""
    message = "The upstream server can't be reached."
    return ApiError(503, message, code="upstream_unavailable", headers={"Retry-After": _SECONDS})


def timed_out() -> ApiError:
    """The upstream took too long."""
    return ApiError(504, "The upstream server did not answer in time.", code="upstream_timeout")


def broken(reason: str) -> ApiError:
    """An answer that is cut off or can't be read."""
    message = f"The upstream server's answer broke off ({reason})."
    return ApiError(502, message, code="upstream_failed")


def _busy(status: int, headers: Mapping[str, str]) -> ApiError:
    wait = headers.get("retry-after", "")
    passed = {"Retry-After": wait if _RETRY_AFTER.fullmatch(wait) else _SECONDS}
    if status == 429:
        message = "Rate limit reached at the upstream server. Please try again later."
        return ApiError(429, message, code="rate_limit_exceeded", headers=passed)
    message = "The upstream server is not ready. Please try again later."
    return ApiError(503, message, code="upstream_unavailable", headers=passed)


def _passed_on(status: int, body: bytes) -> ApiError:
    said = _error_of(body)
    message = said.get("message")
    if not isinstance(message, str) or not message.strip():
        message = "The upstream server refused the request."
    shown = "".join(char for char in message[:_MOST] if char.isprintable() or char == "\n")
    if status == 413:
        return ApiError(413, shown, code="request_too_large")
    param, code = said.get("param"), said.get("code")
    if "context length" in shown or code == "context_length_exceeded":
        if "reduce" not in shown:  # clients match this wording
            shown += " Please reduce the length of the messages."
        return invalid(shown, None, "context_length_exceeded")
    return invalid(
        shown,
        param if isinstance(param, str) and len(param) < 100 else None,
        code if isinstance(code, str) and _CODE.fullmatch(code) else None,
    )


def _error_of(body: bytes) -> dict[str, Any]:
    """The error's fields, wherever servers put them."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    inner = value.get("error")
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str):
        return {"message": inner}
    return value
