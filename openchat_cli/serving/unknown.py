"""What to say about a path or a method that is not there, and where to go instead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openchat_cli.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException

# OpenAI's other interfaces, by the path's first part after /v1.
_OTHERS = {
    "responses": "the Responses API is not supported",
    "embeddings": "the model makes text, no embeddings",
    "conversations": "the Conversations API is not supported",
    **dict.fromkeys(("assistants", "threads"), "the Assistants API is not supported"),
    **dict.fromkeys(("audio", "images", "videos", "realtime"), "the model reads and writes text"),
    **dict.fromkeys(("files", "uploads", "batches", "fine_tuning", "evals"), "nothing is stored"),
    "moderations": "there is no moderation model",
}


def explained(method: str, path: str, error: HTTPException, routes: Iterable[Any]) -> ApiError:
    """Starlette's error as ours; `routes` are those that there are."""
    where = f"{method} {path[:200]}"
    if error.status_code == 404:
        message = f"Unknown request URL: {where}.{_hint(path, {route.path for route in routes})}"
        return ApiError(404, message, code="unknown_url")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"Not allowed: {where}; it takes {allowed}."
        return ApiError(405, message, code="method_not_allowed", headers=error.headers)
    return ApiError(error.status_code, error.detail, headers=error.headers)


def _hint(path: str, known: set[str]) -> str:
    parts = [part for part in path.split("/") if part]
    kind = parts[1] if len(parts) > 1 and parts[0] == "v1" else (parts or [""])[0]
    if kind in _OTHERS:
        return f" On this server {_OTHERS[kind]}; use /v1/chat/completions."
    # A base URL without /v1, or with it twice, or a slash too many.
    names = [part for part in parts if part != "v1"]
    for meant in ("/".join(["", "v1", *names]), "/".join(["", *names])):
        if meant in known and meant != path:
            return f" Did you mean {meant}?"
    return ""
