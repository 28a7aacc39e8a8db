"""Errors as OpenAI's clients expect them: always {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.engine.generation import (
    Completion,
    ContextLengthError,
    EngineError,
    QueueFullError,
)

_TYPES = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}
RETRY_AFTER = "1"  # seconds; a slot frees as soon as some answer ends


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """What the log calls it: the code, or the type where it has none."""
        return self.code or _type(self.status)

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {
            "error": {
                "message": self.message,
                "type": _type(self.status),
                "param": self.param,
                "code": self.code,
            }
        }


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error")


@dataclass(frozen=True, slots=True)
class FailedCompletion(Completion):
    """An answer that a server behind this one did not give, and why."""

    failure: ApiError | None = None


def failure_of(completion: Completion) -> ApiError | None:
    """What to tell the client of an answer that failed; None for one that did not."""
    if isinstance(completion, FailedCompletion) and completion.failure is not None:
        return completion.failure
    if completion.error is not None:
        return ApiError(500, completion.error, code="generation_failed")
    return None


def invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    """A request that can't be answered as it is: 400."""
    return ApiError(400, message, param=param, code=code)


def shutting_down() -> ApiError:
    """An answer that the end of the server cuts off."""
    return ApiError(503, "The server is shutting down.", code="shutting_down")


def timed_out(seconds: float, *, waiting: bool) -> ApiError:
    """An answer that took longer than requests may; `waiting`: it never got a slot."""
    if waiting:
        message = (
            f"The server is overloaded: the request waited {seconds:g} seconds for its turn. "
            "Please try again later."
        )
        headers = {"Retry-After": RETRY_AFTER}
        return ApiError(503, message, code="request_timeout", headers=headers)
    message = f"The answer took longer than the limit of {seconds:g} seconds."
    # Trying again, as OpenAI's own client would, only takes as long again.
    return ApiError(504, message, code="request_timeout", headers={"x-should-retry": "false"})


def from_engine(error: OpenChatError, param: str) -> ApiError:
    """What the engine refused, for the client; `param` is the field that holds the prompt."""
    if isinstance(error, ContextLengthError):
        # Clients match this wording.
        message = (
            f"This model's maximum context length is {error.context} tokens. However, your {param} "
            f"resulted in {error.prompt_tokens} tokens. Please reduce the length of the {param}."
        )
        return invalid(message, param, "context_length_exceeded")
    if isinstance(error, QueueFullError):
        message = f"Rate limit reached: {error.message}. Please try again later."
        headers = {"Retry-After": RETRY_AFTER}
        return ApiError(429, message, code="rate_limit_exceeded", headers=headers)
    if isinstance(error, EngineError):
        return ApiError(503, error.message, code="engine_stopped")
    if isinstance(error, InputError):
        return invalid(error.message, param)
    if isinstance(error, UsageError):
        return invalid(error.message, None)
    return ApiError(500, error.message)
