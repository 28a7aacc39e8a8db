"""Servers as processes, their CPU time, and clients that stream answers from them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What `transformers serve` needs besides what the project has.
_EXTRA = ("fastapi", "accelerate>=1.1")
_SERVE = "from transformers.cli.transformers import main; main()"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One load, measured: the server's CPU time, the clients' waits for their first text."""

    tokens: int
    cpu_seconds: float
    seconds: float
    first: float  # seconds, of the median request

    @property
    def rate(self) -> float:
        """Tokens per CPU-second."""
        return self.tokens / self.cpu_seconds


class Server:
    """A server that listens on a port of its own; use as a context manager."""

    def __init__(self, command: Sequence[str], port: int, model: str, log: Path) -> None:
        self._command, self._port, self._model = command, port, model
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.extra: Mapping[str, Any] = {}  # what else to send with each request

    def __enter__(self) -> Server:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until = time.monotonic() + 120
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise RuntimeError(f"it did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, prompts: Sequence[str], tokens: int) -> Run:
        """Stream answers to all prompts at once."""
        assert self._process is not None
        cpu, wall = _cpu(self._process.pid), time.perf_counter()
        answers = asyncio.run(self._ask_all(prompts, tokens))
        seconds = time.perf_counter() - wall
        time.sleep(0.05)  # what the server still puts away is its work too
        cpu = _cpu(self._process.pid) - cpu
        first = statistics.median(first for first, _ in answers)
        return Run(sum(count for _, count in answers), cpu, seconds, first)

    @contextlib.contextmanager
    def health_watched(self) -> Iterator[list[float]]:
        """Ask for /health all the time; gives the list of the seconds that each answer took."""
        waits: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                began = time.perf_counter()
                assert self._healthy()
                waits.append(time.perf_counter() - began)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield waits
        finally:
            over.set()
            thread.join()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    async def _ask_all(self, prompts: Sequence[str], tokens: int) -> list[tuple[float, int]]:
        return await asyncio.gather(*(self._ask(prompt, tokens) for prompt in prompts))

    async def _ask(self, prompt: str, tokens: int) -> tuple[float, int]:
        """Seconds to the first text, and how many tokens came."""
        body = {"model": self._model, "prompt": prompt, "max_tokens": tokens, "stream": True}
        data = json.dumps(body | self.extra).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
            "Connection: close\r\n\r\n"
        )
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        writer.write(head.encode() + data)
        first, count = None, 0
        async for line in reader:
            if line.startswith(b"data: {"):
                if first is None:
                    first = time.perf_counter() - began
                if b'"usage":{' in line.replace(b" ", b""):
                    count = json.loads(line[6:])["usage"]["completion_tokens"]
        writer.close()
        if first is None or not count:
            raise RuntimeError(f"no answer; see {self._log}")
        return first, count


def ours(folder: Path, log: Path, *options: str) -> Server:
    """`openchat serve` of this checkout."""
    port = _free_port()
    command = [sys.executable, "-m", "openchat_cli", "serve", "--model-path", str(folder)]
    command += ["--port", str(port), "--threads", "1", "--name", "model", *options]
    server = Server(command, port, "model", log)
    server.extra = {"temperature": 0, "stream_options": {"include_usage": True}}
    return server


def transformers(python: Path, folder: Path, log: Path) -> Server:
    """`transformers serve --continuous-batching`, greedy, as ours is."""
    port = _free_port()
    command = [str(python), "-c", _SERVE, "serve", str(folder), "--continuous-batching"]
    command += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1"]
    return Server([*command, "--port", str(port)], port, str(folder), log)


def peer_python(folder: Path) -> Path | None:
    """An interpreter that has what `transformers serve` needs; None where it can't be had.

    Its environment is thrown away with `folder`, and sees the packages of this one.
    """
    python = folder / "bin" / "python"
    try:
        venv.create(folder, with_pip=True)
        place = next(folder.glob("lib/python*/site-packages")) / "host.pth"
        place.write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        pip = [python, "-m", "pip", "install", "--quiet", *_EXTRA]
        subprocess.run(pip, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return python


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _cpu(pid: int) -> float:
    """CPU seconds of a process and of all that come of it, ended ones too."""
    total, wanted = 0, {pid}
    stats = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                stats.append((int(entry.name), int(fields[1]), sum(map(int, fields[11:15]))))
    for child, parent, ticks in sorted(stats):  # a parent is nearly always the older
        if child in wanted or parent in wanted:
            wanted.add(child)
            total += ticks
    return total / _TICKS
