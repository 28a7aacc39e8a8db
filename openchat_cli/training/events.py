"""What ranks tell the launcher: JSON lines over a pipe of their own, since DeepSpeed prints freely.

{"event": "phase", "text": "…"}                  what is going on before the first step
{"event": "plan", "steps": 40, "done": 0}        the first step is about to begin
{"event": "step", "step": 1, "loss": 3.2, …}     a row of the log
{"event": "eval", "step": 0, "loss": 3.4, …}     likewise
{"event": "warn", "text": "…"}
{"event": "done", …}                             the fields of the summary
{"event": "error", "rank": 1, "kind": "InputError", "message": "…", "hint": null}
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from openchat_cli.core import errors
from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.progress import Progress, Task

Event = dict[str, Any]
Emit = Callable[[Event], None]

_KINDS = ("InputError", "UsageError")


def writer(descriptor: int) -> Emit:
    """Events as lines to a file descriptor; a launcher that is gone is not an error here.

    A pipe takes up to 4096 bytes from several writers without mixing them, so events stay shorter.
    """

    def emit(event: Event) -> None:
        with contextlib.suppress(OSError):
            os.write(descriptor, json.dumps(event).encode() + b"\n")

    return emit


def of_error(error: BaseException, rank: int) -> Event:
    """An exception as an event; what is not ours is told by its type and first line."""
    if isinstance(error, OpenChatError):
        kind, message, hint = type(error).__name__, error.message, error.hint
    else:
        first_line = (str(error).strip() or repr(error)).splitlines()[0]
        kind, message, hint = "OpenChatError", f"{type(error).__name__}: {first_line}", None
    return {
        "event": "error",
        "rank": rank,
        "kind": kind,
        "message": message[:400],  # six bytes a character at worst
        "hint": hint and hint[:200],
    }


def to_error(event: Event, where: str) -> OpenChatError:
    """The exception that an error event stands for."""
    kind = str(event["kind"])
    if kind in _KINDS:
        found: OpenChatError = getattr(errors, kind)(event["message"], event["hint"])
        return found
    return OpenChatError(f"rank {event['rank']} failed: {event['message']}", event["hint"] or where)


class Follower:
    """Turns events into progress; keeps what the summary needs."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Task | None = None
        self._began = 0.0
        self._start = 0
        self._total = 0
        self._eval: float | None = None
        self.done: Event | None = None
        self.error: Event | None = None

    def close(self) -> None:
        """End what is shown."""
        if self._task is not None:
            self._task.__exit__(None, None, None)
            self._task = None

    def handle(self, event: Event) -> None:
        """Show one event."""
        match event["event"]:
            case "phase":
                self._progress.note(str(event["text"]))
            case "warn":
                self._progress.warn(str(event["text"]))
            case "plan":
                self._open(event)
            case "step":
                self._step(event)
            case "eval":
                self._eval = event["loss"]
                self._progress.note(f"eval loss {event['loss']:.4f} after {event['step']} steps")
            case "done":
                self.done = event
            case "error" if self.error is None or _is_cause(event, self.error):
                self.error = event

    def _open(self, event: Event) -> None:
        self._began = time.monotonic()
        self._start, self._total = event["done"], event["steps"]
        self._task = self._progress.task("train", total=event["steps"], unit="steps")
        self._task.__enter__()
        self._task.update(done=event["done"])

    def _step(self, event: Event) -> None:
        if self._task is None:
            return
        spent = time.monotonic() - self._began
        left = spent / max(1, event["step"] - self._start) * (self._total - event["step"])
        parts = [f"loss {event['loss']:.4f}"]
        if self._eval is not None:
            parts.append(f"eval {self._eval:.4f}")
        rate = event["tokens"] / max(event["seconds"], 1e-9)
        parts += [f"{rate:,.0f} tokens/s", f"{_clock(left)} left"]
        self._task.update(done=event["step"], detail=", ".join(parts))


def _is_cause(event: Event, before: Event) -> bool:
    """Whether an error explains more: a rank of ours that failed, not one whose peer went away."""
    return event["kind"] in _KINDS and before["kind"] not in _KINDS


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
