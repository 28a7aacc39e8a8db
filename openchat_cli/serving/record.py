"""What is noted about a request while it is answered, for the log and the metrics."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from openchat_cli.engine.generation import Generation

# "cut": the end of the server; "timeout": the time limit of requests.
Outcome = Literal["ok", "refused", "failed", "client_gone", "timeout", "cut"]

_SAFE_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)


@dataclass(eq=False)
class Record:
    """One request. Times are seconds of `time.perf_counter`."""

    id: str
    method: str
    path: str
    client: str | None
    began: float = field(default_factory=time.perf_counter)
    status: int | None = None  # None until an answer begins
    outcome: Outcome | None = None
    error: str | None = None  # its code, or its type where it has none
    counts: dict[str, int] = field(default_factory=dict)
    generations: Sequence[Generation] = ()
    prompts: list[str] | None = None  # only where what is said may be logged
    answers: dict[int, str] = field(default_factory=dict)

    @property
    def queue_seconds(self) -> float | None:
        """From the engine's taking the request to its first slot."""
        waits = [
            generation.started - generation.submitted
            for generation in self.generations
            if generation.started is not None
        ]
        return min(waits, default=None)

    @property
    def first_token_seconds(self) -> float | None:
        """From the request's beginning to the first token of any answer."""
        firsts = [g.first_token for g in self.generations if g.first_token is not None]
        return min(firsts) - self.began if firsts else None

    def fails(self, status: int, error: str) -> None:
        """The answer is an error."""
        self.outcome = "refused" if status < 500 else "failed"
        self.error = error

    def line(self, total: float) -> dict[str, Any]:
        """The log's entry, without what is absent."""
        found: dict[str, Any] = {
            "request_id": self.id,
            "client": self.client,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
            "prompt_tokens": self.counts.get("prompt"),
            "completion_tokens": self.counts.get("completion"),
            "queue_seconds": _rounded(self.queue_seconds),
            "first_token_seconds": _rounded(self.first_token_seconds),
            "seconds": _rounded(total),
        }
        if self.prompts:
            found["prompts"] = self.prompts
            found["answers"] = [self.answers.get(i) for i in range(len(self.generations))]
        return {key: value for key, value in found.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def request_id(given: bytes | None) -> str:
    """The client's own X-Request-Id, if it is harmless in a log, else a fresh one."""
    shown = "" if given is None else given.decode("latin-1")
    return shown if _SAFE_ID.fullmatch(shown) else "req_" + uuid.uuid4().hex


# Each request runs in a task of its own, so what is set there is seen by that request alone.
CURRENT: ContextVar[Record | None] = ContextVar("record", default=None)


def current() -> Record | None:
    """The record of the request that this code works for."""
    return CURRENT.get()
