"""How long work tells of its progress without knowing who listens.

A stage takes `progress: Progress = SILENT`; the command line passes one that draws bars.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One running piece of work, used as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def advance(self, amount: float = 1) -> None:
        """That much more is done."""

    def update(
        self, *, done: float | None = None, total: float | None = None, detail: str | None = None
    ) -> None:
        """Set what is done, what there is in all, or a short text such as "loss 1.93"."""


class Progress(Protocol):
    """Where stages report."""

    def task(self, description: str, total: float | None = None, unit: str = "") -> Task:
        """Begin a piece of work; `total` None means that its size is not known."""

    def note(self, message: str) -> None:
        """Tell something worth a line."""

    def warn(self, message: str) -> None:
        """Tell something the user should look at; the work goes on."""


class _SilentTask:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def advance(self, amount: float = 1) -> None:
        return None

    def update(
        self, *, done: float | None = None, total: float | None = None, detail: str | None = None
    ) -> None:
        return None


class _Silent:
    def task(self, description: str, total: float | None = None, unit: str = "") -> Task:
        return _SilentTask()

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        return None


SILENT: Progress = _Silent()
