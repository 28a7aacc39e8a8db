"""The one place that writes to the terminal: data to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.progress import SILENT, Progress, Task

_LINE_EVERY = 10.0  # seconds between progress lines where bars can't be drawn


class Messages:
    """stderr whose messages are lost, and the work goes on, once its disk is full (`2> file`)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._losing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._losing():
            self._stream.flush()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # What the stream still holds would fail again when the process ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def error_line(error: OpenChatError) -> None:
    """What went wrong and how to mend it, on stderr."""
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def is_person() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> bool:
    """Ask on the terminal, default no; without a terminal the answer is no."""
    if not is_person():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class Terminal:
    """How one command talks: use as a context manager around its work.

    `json_output` prints one summary object on stdout at the end, also when the work fails;
    `quiet` leaves only errors. `data_on_stdout` moves that summary to stderr.
    """

    def __init__(
        self,
        command: str,
        *,
        json_output: bool = False,
        quiet: bool = False,
        data_on_stdout: bool = False,
    ) -> None:
        self.command = command
        self._json = json_output
        self._quiet = quiet
        self._summary_stream = sys.stderr if data_on_stdout else sys.stdout
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self.progress: Progress = SILENT if quiet else _Shown(self._console)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OpenChatError) and self._json:
            self._print_summary({"status": "failed", "error": error.message, "hint": error.hint})

    def note(self, message: str) -> None:
        """A line for the user, on stderr."""
        if not self._quiet:
            self._console.print(message, markup=False, soft_wrap=True)

    def heading(self, title: str) -> None:
        """Begin a part of long work, on stderr."""
        if not self._quiet:
            self._console.print()
            self._console.rule(Text(title, style="bold"), align="left")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for the user, on stderr."""
        if not self._quiet:
            self._console.print(_table(title, columns, rows))

    def panel(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        """Names and values in a frame, on stderr; off a terminal as plain lines."""
        if self._quiet:
            return
        width = max(len(name) for name, _ in lines)
        text = Text("\n".join(f"{name:<{width}}  {value}" for name, value in lines))
        if self._console.is_terminal:
            text.highlight_regex(rf"(?m)^.{{{width}}}", "bold")
            self._console.print(Panel(text, title=Text(title), expand=False, padding=(0, 1)))
        else:
            self._console.print(text, soft_wrap=True)

    def data(self, text: str) -> None:
        """A line of the command's own output, on stdout."""
        print(text, flush=True)

    def data_table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """A table that is the command's own output, on stdout."""
        Console(highlight=False).print(_table(title, columns, rows))

    def done(
        self,
        *,
        outputs: Sequence[Path] = (),
        counts: Mapping[str, Any] | None = None,
        status: str = "ok",
        next_command: Sequence[str | Path] | None = None,
    ) -> None:
        """End well: the summary, and the command that comes next."""
        summary = {
            "status": status,
            "outputs": [str(path) for path in outputs],
            "counts": dict(counts or {}),
        }
        if self._json:
            self._print_summary(summary)
        for path in outputs:
            self.note(f"wrote {path}")
        if next_command is not None:
            self.note(f"next: {shlex.join(str(part) for part in next_command)}")

    def event(self, status: str, **fields: Any) -> None:
        """A summary while the work goes on, such as that of a server that is ready."""
        if self._json:
            self._print_summary({"status": status, **fields})

    def _print_summary(self, summary: Mapping[str, Any]) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        head = {"kind": "summary", "version": 1, "command": self.command}
        text = json.dumps({**head, **summary, "seconds": seconds}, ensure_ascii=False)
        # Half a surrogate pair, as labels and ids may hold one, is written as JSON's own escape.
        text = text.encode("utf-8", "backslashreplace").decode()
        print(text, file=self._summary_stream, flush=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        cells = [_cell(value) for value in row]
        table.add_row(*cells)
    return table


def _cell(value: object) -> str:
    from rich.markup import escape

    return escape(str(value))


class _Shown:
    """Progress as bars on a terminal, else as a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None
        self._open = 0

    def task(self, description: str, total: float | None = None, unit: str = "") -> Task:
        if self._console.is_terminal and os.environ.get("TERM") != "dumb":
            return _BarTask(self, description, total, unit)
        return _LineTask(self._console, description, total, unit)

    def note(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", markup=False, soft_wrap=True, style="yellow")

    @contextlib.contextmanager
    def bars(self) -> Iterator[Bars]:
        """The one live display, shared by the tasks that run inside each other."""
        if self._bars is None:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
            )
            self._bars.start()
        self._open += 1
        try:
            yield self._bars
        finally:
            self._open -= 1
            if self._open == 0:
                self._bars.stop()
                self._bars = None


class _BarTask:
    def __init__(self, shown: _Shown, description: str, total: float | None, unit: str) -> None:
        self._context = shown.bars()
        self._start = (description, total, unit)

    def __enter__(self) -> Self:
        self._bars = self._context.__enter__()
        description, total, unit = self._start
        self._id = self._bars.add_task(description, total=total, unit=unit, detail="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._id, amount)

    def update(
        self, *, done: float | None = None, total: float | None = None, detail: str | None = None
    ) -> None:
        self._bars.update(self._id, completed=done, total=total)
        if detail is not None:
            self._bars.update(self._id, detail=detail)


class _LineTask:
    def __init__(self, console: Console, description: str, total: float | None, unit: str) -> None:
        self._console = console
        self._description, self._total, self._unit = description, total, unit
        self._done = 0.0
        self._detail = ""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line()

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        self._tick()

    def update(
        self, *, done: float | None = None, total: float | None = None, detail: str | None = None
    ) -> None:
        self._done = self._done if done is None else done
        self._total = self._total if total is None else total
        self._detail = self._detail if detail is None else detail
        self._tick()

    def _tick(self) -> None:
        if time.monotonic() - self._last >= _LINE_EVERY:
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        total = "" if self._total is None else f"/{self._total:,.0f}"
        text = f"{self._description}: {self._done:,.0f}{total} {self._unit} {self._detail}"
        self._console.print(text.rstrip(), markup=False, soft_wrap=True)
