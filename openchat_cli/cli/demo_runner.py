"""Running the demo's commands as processes, each exactly as it is shown, and ending them well."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openchat_cli.cli.demo_steps import Counts, Step
from openchat_cli.core.errors import OpenChatError

_START_SECONDS = 120.0  # that a server may take until it is ready
_LEAVE_SECONDS = 10.0  # that a process may take to end when told to


class StepError(OpenChatError):
    """A command of the road failed; it has said why itself. The demo ends with its exit code."""

    def __init__(self, step: Step, exit_code: int) -> None:
        super().__init__(
            f"the demo stopped: '{step.name}' ended with exit code {exit_code}",
            hint=f"by itself it is: {step.line}",
        )
        self.exit_code = exit_code if exit_code > 0 else 1


def run(step: Step, *, quiet: bool) -> tuple[Counts, str]:
    """Run one command to its end; gives the counts of its summary and what it wrote to stdout.

    Its progress goes to our stderr as it comes. Whatever ends us ends it too.
    """
    with _started(step, quiet=quiet, errors=None) as process:
        output, _ = process.communicate(step.stdin)
        if process.returncode:
            raise StepError(step, process.returncode)
    return _counts(output), output


@contextlib.contextmanager
def serve(step: Step, *, log: Path) -> Iterator[Counts]:
    """A server for the length of the block; gives what it says when it is ready (url, model, …).

    What it tells of requests goes to `log`; where it does not start, its last words to stderr.
    """
    with (
        log.open("w", encoding="utf-8") as stream,
        _started(step, quiet=False, errors=stream) as process,
    ):
        # A start that hangs is ended from beside, since a read of a pipe can't time out.
        timer = threading.Timer(_START_SECONDS, process.kill)
        timer.start()
        try:
            said = process.stdout.readline() if process.stdout else ""
        finally:
            timer.cancel()
        ready = json.loads(said or "{}")
        if ready.get("status") != "ready":  # a failure is summed up there too
            code = process.wait()
            print(_last_words(log), file=sys.stderr)
            raise StepError(step, code)
        yield ready


@contextlib.contextmanager
def _started(step: Step, *, quiet: bool, errors: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "openchat_cli", *step.command],
        # A command that could ask must not: nobody is there to answer.
        stdin=subprocess.DEVNULL if step.stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        env=_environment(step, quiet=quiet),
    )
    interrupted = True
    try:
        yield process
        interrupted = False
    finally:
        end(process, patience=_LEAVE_SECONDS if interrupted else 0.0)


def _environment(step: Step, *, quiet: bool) -> dict[str, str]:
    """Ours, and the variables that stand for --json and --quiet: the line itself stays as shown."""
    prefix = "OPENCHAT_" + step.name.replace(" ", "_").upper()
    wanted = {f"{prefix}_JSON": "" if step.stdin else "1", f"{prefix}_QUIET": "1" if quiet else ""}
    return {**os.environ, **{name: value for name, value in wanted.items() if value}}


def end(process: subprocess.Popen[str], *, patience: float) -> None:
    """End a process: first wait for it (a Ctrl-C reached it too), then ask, then make it."""
    try:
        for tell, seconds in ((None, patience / 4), (process.terminate, _LEAVE_SECONDS)):
            if tell is not None:
                tell()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return
    finally:  # also where a second Ctrl-C ends the waiting
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _counts(output: str) -> Counts:
    lines = output.strip().splitlines()
    with contextlib.suppress(json.JSONDecodeError):
        summary = json.loads(lines[-1]) if lines else {}
        if isinstance(summary, dict):
            return dict(summary.get("counts", {}))
    return {}


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return "\n".join(lines[-5:])


class PeakMemory:
    """The most memory that this process and all below it held together, looked at twice a second.

    `mebibytes` is None where there is no /proc. Pages that processes share count for each.
    """

    def __init__(self, every: float = 0.5) -> None:
        self._every = every
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mebibytes(self) -> int | None:
        """The peak so far."""
        return self._peak >> 20 or None

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._peak = max(self._peak, sum(map(_resident, _with_children(os.getpid()))))


def _with_children(process: int) -> Iterator[int]:
    yield process
    for listing in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            for child in listing.read_text().split():
                yield from _with_children(int(child))


def _resident(process: int) -> int:
    """Bytes in memory; 0 for a process that has just ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
