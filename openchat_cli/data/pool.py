"""Work spread over child processes of this machine.

Children are plain processes that import only what they need. They stand in a process group of their
own, so that Ctrl-C reaches the parent alone, and they end with it, however it ends: their stdin
closes. One that dies is replaced.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import openchat_cli
from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.data.executors import DiedError, Promise, survived
from openchat_cli.data.worker import READY, Item, Rules, Verdict

_AHEAD = 3  # batches under way or waiting for each child
_STARTS = 3  # of one child, before there is no hope
_BROKEN = (EOFError, OSError, ValueError, pickle.UnpicklingError)


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def import_path() -> str:
    """PYTHONPATH for a process that must import this very package."""
    home = str(Path(openchat_cli.__file__).parent.parent)
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


class Pool:
    """At most `workers` children with the same settings, each with its thread; a context manager.

    A child is started when there is work for it.
    """

    def __init__(self, workers: int, settings: Rules, progress: Progress = SILENT) -> None:
        self.ahead = workers * _AHEAD
        self._settings, self._progress = settings, progress
        self._children: set[_Child] = set()
        self._lock = threading.Lock()
        self._own = threading.local()
        self._closed = False
        self._threads = ThreadPoolExecutor(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            for child in self._children:
                child.process.kill()
        self._threads.shutdown(wait=True)
        for child in self._children:
            child.end()

    def submit(self, batch: Sequence[Item]) -> Promise:
        """Begin a batch in the next child that is free."""
        return self._threads.submit(survived, self._exchange, batch).result

    def _exchange(self, batch: Sequence[Item]) -> list[Verdict]:
        """In a thread: have its child do the batch."""
        child = self._child()
        try:
            child.send(batch)
            verdicts: list[Verdict] = child.receive()
            return verdicts
        except _BROKEN:
            code = self._dismiss(child)
            if not self._closed:
                cause = _cause(code)
                self._progress.warn(f"a worker process died ({cause}); the work is done again")
            late = hasattr(signal, "SIGPROF") and code == -signal.SIGPROF
            raise DiedError(surely=late) from None

    def _child(self) -> _Child:
        """The child of this thread, ready for work."""
        code = 0
        for _ in range(_STARTS):
            child: _Child | None = getattr(self._own, "child", None)
            if child is not None:
                return child
            with self._lock:
                if self._closed:
                    raise OpenChatError("the workers were told to end")
                child = self._own.child = _Child()
                self._children.add(child)
            try:
                child.send(self._settings)
                if child.receive() == READY:
                    return child
            except _BROKEN:
                code = self._dismiss(child)
        raise OpenChatError(
            f"a worker process can't be started ({_cause(code)})",
            "is there memory for it? fewer --workers need less",
        )

    def _dismiss(self, child: _Child) -> int:
        """Give up a child; its exit code."""
        self._own.child = None
        with self._lock:
            self._children.discard(child)
        return child.end()


class _Child:
    """One process, spoken to in pickles."""

    def __init__(self) -> None:
        code = "from openchat_cli.data.worker import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": import_path()},
            process_group=0 if os.name == "posix" else None,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in: IO[bytes] = self.process.stdin
        self._out: IO[bytes] = self.process.stdout

    def send(self, value: object) -> None:
        pickle.dump(value, self._in, pickle.HIGHEST_PROTOCOL)
        self._in.flush()

    def receive(self) -> Any:
        return pickle.load(self._out)

    def end(self) -> int:
        """Whatever it is at, end it; gives the exit code, a signal's number below zero."""
        try:
            # A process that died by itself closed its pipe a moment before its end.
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for stream in (self._in, self._out):
            try:
                stream.close()
            except OSError:
                continue  # the child went with something still unsent
        return self.process.wait()


def _cause(code: int) -> str:
    """What ended a process, for people."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
