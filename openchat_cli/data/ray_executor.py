"""Shards as tasks of a Ray cluster: one that is running, or a local one for this run alone.

Ray is used for what it is good at, placing tasks and doing them again when a process or a node is
lost. Order, bounds and what is finished stay with shards.py, so the bytes are those of a local run.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openchat_cli import __version__
from openchat_cli.core.errors import OpenChatError, UsageError
from openchat_cli.core.progress import Progress
from openchat_cli.data import shards
from openchat_cli.data.executors import DiedError, Promise, survived
from openchat_cli.data.pool import cores, import_path
from openchat_cli.data.worker import Item, Rules, Verdict, loaded, work

_AHEAD = 3  # tasks under way or waiting for each processor
_TASK_RETRIES = 2  # by Ray itself, where a process or a node is lost
_OBJECTS = 200 << 20  # bytes of shared memory for shards on their way; /dev/shm may be small
_CONNECT_SECONDS = 5.0

# Read when Ray is imported. It is talkative, tells of its use, and writes the token of a cluster of
# its own into the home folder.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",
}


class RayExecutor:
    """`address` None starts a local cluster of `workers` processors; a context manager.

    Workers of a local cluster read the files themselves; to the nodes of another one their bytes
    are sent, since nothing says that they see the same files.
    """

    def __init__(
        self, address: str | None, workers: int | None, settings: Rules, progress: Progress
    ) -> None:
        self.ahead = 1
        self._address, self._workers = address, workers
        self._settings, self._progress = settings, progress
        self._warden: _Warden | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        processors = 0
        with self._stack as stack:
            stack.enter_context(contextlib.redirect_stdout(_RowsOnly(sys.stdout)))
            if self._address is None:
                self._warden = stack.enter_context(_Warden())
            with _signals_later():
                import ray

                stack.callback(ray.shutdown)
                processors = self._connect() if self._address else self._begin_local()
            self.ahead = processors * _AHEAD
            remote = ray.remote(num_cpus=1, max_retries=_TASK_RETRIES)(_task)
            self._task = partial(remote.remote, shards.program(), ray.put(self._settings))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def submit(self, batch: Sequence[Item]) -> Promise:
        """Begin a batch on whichever processor is free."""
        begun = [self._begin(batch)]

        def run(part: Sequence[Item]) -> list[Verdict]:
            return self._result(begun.pop() if begun else self._begin(part))

        return partial(survived, run, batch)

    def _begin(self, batch: Sequence[Item]) -> Future[list[Verdict] | None]:
        prepared = [_absolute(item) if self._warden else loaded(item) for item in batch]
        future: Future[list[Verdict] | None] = self._task(prepared).future()
        return future

    def _result(self, future: Future[list[Verdict] | None]) -> list[Verdict]:
        from ray import exceptions

        try:
            found = future.result()
        except exceptions.RayTaskError as error:
            raise OpenChatError(f"Ray: {_last_line(error)}", _same_version()) from None
        except (
            exceptions.WorkerCrashedError,
            exceptions.OutOfMemoryError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
        ) as error:
            self._progress.warn(
                f"Ray lost a worker ({type(error).__name__}); the work is done again"
            )
            raise DiedError(surely=True) from None  # Ray has tried it again by then
        except exceptions.RayError as error:
            raise OpenChatError(f"Ray: {_last_line(error)}") from None
        if found is None:
            raise OpenChatError("a node of the cluster has another openchat", _same_version())
        return found

    def _begin_local(self) -> int:
        assert self._warden is not None
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        processors = self._workers or cores()
        # Inherited by the workers; as a runtime_env it would cost seconds at their start.
        with _environment("PYTHONPATH", import_path()):
            _init(
                address="local",
                num_cpus=processors,
                include_dashboard=False,
                object_store_memory=_OBJECTS,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._warden.folder),
            )
        return processors

    def _connect(self) -> int:
        assert self._address is not None
        _reach(self._address)
        _init(address=self._address)
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray is half typed
        return self._workers or int(resources.get("CPU", 1))


class _RowsOnly(io.TextIOBase):
    """Stdout for bytes alone: Ray prints of processes that it lost, in the midst of the rows."""

    def __init__(self, stdout: Any) -> None:
        self.buffer = getattr(stdout, "buffer", None)

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Let Ray's start run to its end, then do what an interrupt in the midst of it asked for.

    Raised in there it may be lost in a package's fork hook, and ray.init leaves a SIGTERM handler
    of its own behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    except SystemExit:
        came.append(signal.SIGTERM)  # by Ray's handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _init(**options: Any) -> None:
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (OSError, RuntimeError, ValueError) as error:
        place = options["address"].replace("local", "a cluster of its own")
        raise OpenChatError(f"Ray can't begin with {place}: {_last_line(error)}") from None


def _reach(address: str) -> None:
    """Raise UsageError or OpenChatError at once, where Ray would try for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise UsageError(f"--ray-address: HOST:PORT was expected, found '{address}'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise OpenChatError(
            f"no Ray cluster answers at {address} ({error})", "begun by: ray start --head"
        ) from None


def _task(program: str, settings: Rules, batch: Sequence[Item]) -> list[Verdict] | None:
    """On a node: the verdicts, or None where the node's program is not the one that asks."""
    return work(settings, batch) if program == shards.program() else None


def _absolute(item: Item) -> Item:
    return item._replace(path=str(Path(item.path).absolute())) if item.path else item


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _same_version() -> str:
    return f"every node needs openchat-cli {__version__} in the same Python as here"


class _Warden:
    """A process that clears up after a local cluster, however the run ends.

    Ray ends most of its processes with the driver, but after a SIGKILL some stay for minutes, and
    its files for good. The warden waits for its stdin to close, in a session of its own.
    """

    def __init__(self) -> None:
        # Sockets lie in there, and their paths are limited to 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="openchat-ray-"))
        code = "from openchat_cli.data.ray_executor import clear; clear()"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(self.folder)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": import_path()},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def clear() -> None:
    """The warden: when its stdin closes, end the processes that use the folder, and remove it."""
    folder, run = sys.argv[1], os.getppid()
    sys.stdin.read()
    while users := _users(folder) - {run}:
        for pid in users:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _users(folder: str) -> set[int]:
    """The processes with a file open in there; none where there is no /proc to tell."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
        except OSError:
            continue  # ended, or another user's
        if any(link.startswith(f"{folder}/") for link in links):
            found.add(int(process.name))
    return found
