"""`openchat serve`: listen, load the model, answer until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.manifest import resolve_type
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.model import hub
from openchat_cli.serving.access_log import logging_to
from openchat_cli.serving.loading import Loading
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.upstream_settings import Behind

if TYPE_CHECKING:
    import uvicorn

    from openchat_cli.serving.backend import Backend
    from openchat_cli.serving.service import Service

_WATCH_SECONDS = 0.2  # how soon a stopped engine ends the process
_FAILED_SECONDS = 1.0  # how long /health goes on telling of it
_CANCEL_SECONDS = 1  # for the last words to those whose answer is cut off
log = logging.getLogger("openchat.serve")

_KEEP_ALIVE = 75  # seconds; longer than clients keep idle connections, so that they close them


@dataclass(frozen=True)
class Ready:
    """What to tell once requests are answered."""

    url: str  # as clients want it, with /v1
    model: str
    context: int  # tokens; 0 where only the upstream knows
    slots: int
    model_type: str
    device: str
    dtype: str
    weight_bytes: int
    slot_bytes: int  # of all slots together
    upstream: Behind | None = None  # who answers in the place of a model here


Load = Callable[[], "Backend"]


def serve(
    settings: ServeSettings,
    *,
    progress: Progress = SILENT,
    ready: Callable[[Ready], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM, which then go on to whoever handled them before.

    The first signal lets answers under way finish for `shutdown_seconds`, a second one does not.
    Raises OpenChatError where the port is taken, the model can't be loaded or the engine stops.
    """
    if settings.upstream is None:
        _check_folder(settings.engine)
    _allow_many_files()
    with logging_to(settings.log_file), listen(settings.host, settings.port) as listener:
        asyncio.run(Server(settings, progress=progress, ready=ready).run(listener))


def _check_folder(engine: EngineSettings) -> None:
    """Raise now, not after the seconds that importing torch takes."""
    folder = hub.find(engine.model_path)
    if folder is None or not folder.is_dir():
        if folder is not None or not hub.is_name(engine.model_path):
            raise hub.no_such_folder(engine.model_path)
    else:
        resolve_type(engine.model_type, model_path=folder, model_file=engine.model_file)


@contextlib.contextmanager
def background(
    settings: ServeSettings, *, progress: Progress = SILENT, load: Load | None = None
) -> Iterator[Ready]:
    """Serve from a thread of this process while the block runs; `load` brings another engine.

    Raises what `serve` raises.
    """
    known: queue.SimpleQueue[Ready | BaseException] = queue.SimpleQueue()
    server = Server(settings, progress=progress, ready=known.put, load=load)

    def run() -> None:
        try:
            with logging_to(settings.log_file), listen(settings.host, settings.port) as listener:
                asyncio.run(server.run(listener))
        except BaseException as error:
            known.put(error)

    thread = threading.Thread(target=run, name="serve", daemon=True)
    thread.start()
    first = known.get()
    if isinstance(first, BaseException):
        raise first
    try:
        yield first
    finally:
        server.stop()
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; OpenChatError where that can't be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name, or asyncio leaves Nagle's delay on: 40 ms for every small answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        # Listening at once makes a taken port known now, not when the model is loaded.
        listener.listen(1024)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        hint = "another program listens there; choose another --port, or 0 for any free one"
        message = f"can't listen on {host}:{port} ({reason})"
        raise OpenChatError(message, hint if "in use" in reason else None) from None
    return listener


def _allow_many_files() -> None:
    """Each connection is an open file, and many systems begin with as few as 256 or 1,024."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Server:
    """One run of the server."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        progress: Progress,
        ready: Callable[[Ready], None],
        load: Load | None = None,
    ) -> None:
        from openchat_cli.serving.service import Service

        self._settings = settings
        self._ready = ready
        self._load_engine = load or self._load_backend
        self._service = Service(settings)
        self._service.loading = self._progress = Loading(progress)
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._uvicorn = _uvicorn_server(self._service, self.stop)
        self._engine: Backend | None = None
        self._failure: Exception | None = None

    def stop(self) -> None:
        """Let answers under way finish, then end (from any thread, and from a signal handler)."""
        self._service.watch.draining = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def run(self, listener: socket.socket) -> None:
        """Serve on a listening socket until a signal comes or `stop` is called."""
        self._loop = asyncio.get_running_loop()
        if self._service.watch.draining:
            self._stopping.set()
        work = asyncio.create_task(self._load_and_watch(listener))
        drain = asyncio.create_task(self._drain())
        try:
            await self._uvicorn.serve(sockets=[listener])
        finally:
            work.cancel()
            drain.cancel()
            if self._engine is not None:
                self._engine.close()
        if self._failure is not None:
            raise self._failure

    async def _drain(self) -> None:
        """Once told to stop: go on listening, to say so with 503, until all answers are done."""
        await self._stopping.wait()
        if self._failure is None:
            began = len(self._service.watch.open)
            if began:
                log.info("stopping: %d requests are still open", began)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_seconds):
                await self._service.watch.idle()
        self._uvicorn.should_exit = True

    async def _load_and_watch(self, listener: socket.socket) -> None:
        try:
            await self._load(listener)
            while self._engine is not None and self._engine.failure is None:
                await asyncio.sleep(_WATCH_SECONDS)
            assert self._engine is not None
            self._failure = OpenChatError(self._engine.failure or "the engine stopped")
            await asyncio.sleep(_FAILED_SECONDS)
        except Exception as error:
            self._failure = error
        self.stop()

    async def _load(self, listener: socket.socket) -> None:
        from openchat_cli.serving.bridge import Bridge
        from openchat_cli.serving.upstream import UpstreamEngine

        engine = self._engine = await _in_daemon_thread(self._load_engine)
        if self._service.watch.draining:
            return
        # What is loaded stays. Looking through it again for garbage would stop everyone for a
        # moment: 7 MB of brackets, which took 1.9 s to parse, take 0.5 s.
        gc.collect()
        gc.freeze()
        self._service.start(Bridge(engine, timeout=self._settings.request_timeout))
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self._ready(
            Ready(
                url=f"http://{shown}:{port}/v1",
                model=self._service.model,
                context=engine.context,
                slots=engine.slots,
                model_type=engine.kind.name,
                device=engine.device,
                dtype=engine.dtype,
                weight_bytes=engine.weight_bytes,
                slot_bytes=engine.slot_bytes,
                upstream=engine.behind if isinstance(engine, UpstreamEngine) else None,
            )
        )

    def _load_backend(self) -> Backend:
        if self._settings.upstream is not None:
            from openchat_cli.serving.upstream_start import connect

            return connect(self._settings.upstream, progress=self._progress)
        from openchat_cli.engine.engine import Engine

        return Engine.load(self._settings.engine, progress=self._progress)


async def _in_daemon_thread(work: Callable[[], Backend]) -> Backend:
    """Run `work` in a thread that the process need not wait for when a signal comes."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Backend] = loop.create_future()

    def settle(engine: Backend | None, error: Exception | None) -> None:
        if outcome.cancelled():
            if engine is not None:
                engine.close()
        elif error is not None:
            outcome.set_exception(error)
        elif engine is not None:
            outcome.set_result(engine)

    def run() -> None:
        engine: Backend | None = None
        failure: Exception | None = None
        try:
            engine = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, engine, failure)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await outcome


def _uvicorn_server(service: Service, stop: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    from openchat_cli.serving.app import create_app
    from openchat_cli.serving.connection import connection_class

    settings = service.settings
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_CANCEL_SECONDS,
        http=connection_class(
            header_seconds=settings.header_seconds,
            stall_seconds=settings.stall_seconds,
            max_connections=settings.max_connections,
        ),
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self._captured_signals.append(sig)
            if service.watch.draining:  # the second signal, whichever it is
                self.should_exit = self.force_exit = True
            stop()

    return Server(config)
