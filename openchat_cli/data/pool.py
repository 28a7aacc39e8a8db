"""Work spread over child processes, answers in the order of the work.

Children are plain processes that import only what they need. They stand in a process group of their
own, so that Ctrl-C reaches the parent alone, and they end with it, however it ends: their stdin
closes.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import openchat_cli
from openchat_cli.core.errors import OpenChatError
from openchat_cli.data.worker import Item, Rules, Verdict

_AHEAD = 3  # batches under way or waiting for each child


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """A fixed number of children with the same settings; a context manager."""

    def __init__(self, workers: int, settings: Rules) -> None:
        self._workers, self._settings = workers, settings
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._own = threading.local()
        self._closed = False
        self._threads = ThreadPoolExecutor(workers, initializer=self._start)

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
                child.kill()
        self._threads.shutdown(wait=True)
        for child in self._children:
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    _close(stream)
            child.wait()

    def map(self, batches: Iterable[Sequence[Item]]) -> Iterator[list[Verdict]]:
        """The verdicts of each batch; no more than a few batches are held at once."""
        waiting: deque[Future[list[Verdict]]] = deque()
        for batch in batches:
            waiting.append(self._threads.submit(self._exchange, batch))
            if len(waiting) >= self._workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _start(self) -> None:
        """In each thread: the child it talks to."""
        code = "from openchat_cli.data.worker import main; main()"
        command = [sys.executable, "-P", "-c", code]
        home = str(Path(openchat_cli.__file__).parent.parent)
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        with self._lock:
            if self._closed:
                return
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                process_group=0 if os.name == "posix" else None,
            )
            self._children.append(child)
        self._own.child = child
        self._send(child, self._settings)

    def _exchange(self, batch: Sequence[Item]) -> list[Verdict]:
        child: subprocess.Popen[bytes] = self._own.child
        try:
            self._send(child, batch)
            assert child.stdout is not None
            verdicts: list[Verdict] = pickle.load(child.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            raise OpenChatError(
                "a worker process ended before its work was done",
                "was it killed for want of memory? fewer --workers need less",
            ) from None
        return verdicts

    def _send(self, child: subprocess.Popen[bytes], value: object) -> None:
        assert child.stdin is not None
        pickle.dump(value, child.stdin, pickle.HIGHEST_PROTOCOL)
        child.stdin.flush()


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:
        return  # the child went with something still unsent
