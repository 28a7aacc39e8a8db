"""How far the model is loaded, for those who ask /health meanwhile."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from openchat_cli.core.progress import Progress, Task


class Loading:
    """A `Progress` that passes everything on and remembers the latest."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._latest: _Watched | None = None

    def state(self) -> dict[str, Any]:
        """{stage, done, total}; `total` is null where the size is not known."""
        task = self._latest
        if task is None:
            return {"stage": "starting", "done": 0, "total": None}
        return {"stage": task.stage, "done": task.done, "total": task.total, "unit": task.unit}

    def task(self, description: str, total: float | None = None, unit: str = "") -> Task:
        """Begin a piece of work."""
        inner = self._inner.task(description, total, unit)
        self._latest = _Watched(inner, description, total, unit)
        return self._latest

    def note(self, message: str) -> None:
        """Tell something worth a line."""
        self._inner.note(message)

    def warn(self, message: str) -> None:
        """Tell something to look at."""
        self._inner.warn(message)


class _Watched:
    """One piece of work; the loading thread writes it, the loop reads single values."""

    def __init__(self, inner: Task, stage: str, total: float | None, unit: str) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.done: float = 0
        self._inner = inner

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        self._inner.advance(amount)

    def update(
        self, *, done: float | None = None, total: float | None = None, detail: str | None = None
    ) -> None:
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self._inner.update(done=done, total=total, detail=detail)
