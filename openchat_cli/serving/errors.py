"""Errors as OpenAI's clients expect them: always {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.engine.generation import ContextLengthError, EngineError, QueueFullError

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

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }


def invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    """A request that can't be answered as it is: 400."""
    return ApiError(400, message, param=param, code=code)


def shutting_down() -> ApiError:
    """An answer that the end of the server cuts off."""
    return ApiError(503, "The server is shutting down.", code="shutting_down")


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
