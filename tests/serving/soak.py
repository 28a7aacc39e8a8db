"""Ten minutes of everything at once against a real server, whose memory must stay flat.

    python -m tests.serving.soak          SOAK_SECONDS=600 by default
    make soak

Long and short answers, streams, hang-ups at random moments, wrong requests, slow readers, and
/health and /metrics all the while. Exits 1 where something was answered wrongly, leaked or grew.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.serving.folders import model_folder
from tests.serving.raw import CHAT, HELLO, connect, metrics, request, until

CLIENTS = 10
NEVER_ENDS = {"logit_bias": {"368": -100}}  # the end of turn of the folder made on the spot
WRONG: list[dict[str, Any]] = [
    {"n": 10**30},
    {"messages": []},
    {"model": "none"},
    {"temperature": "hot"},
    {"messages": [{"role": "user", "content": "a" * 3000}]},
]


@dataclass
class Report:
    """What came of it."""

    seconds: float
    answers: Counter[str] = field(default_factory=Counter)  # by what was asked and the status
    health: list[float] = field(default_factory=list)  # seconds
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds, bytes)
    left: dict[str, float] = field(default_factory=dict)  # what the idle server still holds
    wrong: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Bytes by which the median of the last third exceeds that of the first, after a warm-up
        of a quarter of the time."""
        since = [size for at, size in self.memory if at > self.seconds / 4]
        third = len(since) // 3
        return statistics.median(since[-third:]) - statistics.median(since[:third])

    @property
    def health_p99(self) -> float:
        """Seconds."""
        return statistics.quantiles(self.health, n=100)[98]

    def lines(self) -> list[str]:
        """For people."""
        sizes = [size / 2**20 for _, size in self.memory]
        return [
            f"seconds        {self.seconds:.0f}",
            *(f"{name:<22} {count}" for name, count in sorted(self.answers.items())),
            f"health         {len(self.health)} asked, p99 {1000 * self.health_p99:.1f} ms",
            f"memory         {min(sizes):.1f} to {max(sizes):.1f} MiB, "
            f"last third against first after the warm-up {self.growth / 2**20:+.2f} MiB",
            f"left           {self.left}",
            *(f"WRONG          {line}" for line in self.wrong),
        ]


class Soak:
    """Clients that do everything to a server until the time is over."""

    def __init__(self, root: str, seconds: float) -> None:
        self._root = root
        self._end = time.monotonic() + seconds
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.report = Report(seconds)

    def run(self) -> Report:
        """Load, then wait until the server is idle and see what it still holds."""
        before = self._held()
        work: list[Callable[[int], None]] = [self._client] * CLIENTS + [self._watch]
        threads = [threading.Thread(target=job, args=[n]) for n, job in enumerate(work)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._compare(before)
        return self.report

    def _client(self, seed: int) -> None:
        rng = random.Random(seed)
        kinds = [self._whole, self._stream, self._hang_up, self._refused, self._slow_reader]
        weights = [4, 4, 5, 3, 1]
        while time.monotonic() < self._end:
            (kind,) = rng.choices(kinds, weights)
            name = kind.__name__.strip("_")
            try:
                self._count(f"{name} {kind(rng)}")
            except (OSError, httpx2.HTTPError, AssertionError, ValueError) as error:
                with self._lock:
                    self.report.wrong.append(f"{name}: {type(error).__name__}: {error}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.report.answers[what] += 1

    def _body(self, rng: random.Random, **more: Any) -> dict[str, Any]:
        words = " ".join(
            rng.choice(["Hello", "the", "world", "a"]) for _ in range(rng.randint(1, 90))
        )
        tokens = rng.choice([1, 3, 10, 10, 40, 150])
        said = {"messages": [{"role": "user", "content": words}], "max_tokens": tokens}
        return {**HELLO, **NEVER_ENDS, **said, **more}

    def _whole(self, rng: random.Random) -> int:
        body = self._body(rng, n=rng.choice([1, 1, 1, 2]))
        got = httpx2.post(self._root + CHAT, json=body, timeout=120)
        assert got.status_code in (200, 429), got.text
        if got.status_code == 200:
            used = got.json()["usage"]["completion_tokens"]
            assert used == body["max_tokens"] * body["n"], (used, body["max_tokens"])
        return got.status_code

    def _stream(self, rng: random.Random) -> int:
        body = self._body(rng, stream=True, stream_options={"include_usage": True})
        got = httpx2.post(self._root + CHAT, json=body, timeout=120)
        if got.status_code == 200:
            *_, usage, done, end = got.text.split("\n\n")
            assert (done, end) == ("data: [DONE]", ""), got.text[-200:]
            used = json.loads(usage.removeprefix("data: "))["usage"]["completion_tokens"]
            assert used == body["max_tokens"]
        assert got.status_code in (200, 429), got.text
        return got.status_code

    def _hang_up(self, rng: random.Random) -> str:
        whole = request(self._body(rng, stream=rng.random() < 0.5, max_tokens=1500))
        sent = whole if rng.random() < 0.8 else whole[: rng.randrange(len(whole))]
        with connect(self._root) as raw:
            raw.sendall(sent)
            time.sleep(rng.choice([0, 0.001, 0.02, 0.1]))
        return "done"

    def _refused(self, rng: random.Random) -> int:
        got = httpx2.post(self._root + CHAT, json=HELLO | rng.choice(WRONG), timeout=60)
        assert got.status_code in (400, 404), got.text
        return got.status_code

    def _slow_reader(self, rng: random.Random) -> str:
        with connect(self._root, receive_buffer=2048) as raw:
            raw.sendall(request(self._body(rng, stream=True, max_tokens=60)))
            for _ in range(10):
                time.sleep(0.02)
                raw.recv(500)
        return "done"

    def _watch(self, _: int) -> None:
        with httpx2.Client(timeout=30) as http:
            while time.monotonic() < self._end:
                began = time.perf_counter()
                assert http.get(self._root + "/health").status_code == 200
                self.report.health.append(time.perf_counter() - began)
                at = time.monotonic() - self._began
                self.report.memory.append(
                    (at, metrics(self._root)["process_resident_memory_bytes"])
                )
                time.sleep(0.1)

    def _held(self) -> dict[str, float]:
        """What an idle server has: tasks and files; none of the rest."""
        # Those of its loop and engine, and what serves this very question.
        names = ("openchat_tasks", "process_open_fds", "openchat_open_requests")
        rest = ("openchat_slots_running", "openchat_queue_depth")
        found = metrics(self._root)
        return {name: found[name] for name in (*names, *rest)}

    def _compare(self, before: dict[str, float]) -> None:
        try:
            until(lambda: self._held() == before, 30)
        except AssertionError:
            self.report.wrong.append(f"left behind: {self._held()}, before {before}")
        self.report.left = self._held()
        # In less than a minute not every length of prompt has been seen.
        allowed = (16 if self.report.seconds >= 60 else 64) * 2**20
        if self.report.growth > allowed:
            self.report.wrong.append(f"memory grew by {self.report.growth / 2**20:.1f} MiB")


def soak(folder: Path, seconds: float) -> Report:
    """Start a server over a model folder, load it for so long, stop it."""
    options = ["--port", "0", "--max-slots", "8", "--queue-size", "24", "--json", "--quiet"]
    command = [sys.executable, "-m", "openchat_cli", "serve", "--model-path", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdout is not None
            root = json.loads(it.stdout.readline())["url"].removesuffix("/v1")
            report = Soak(root, seconds).run()
        finally:
            it.terminate()
            _, said = it.communicate(timeout=90)
    if it.returncode != 143 or said.strip() != "terminated":
        report.wrong.append(f"the server ended with {it.returncode} and said: {said[-500:]}")
    return report


def main() -> int:
    """The command."""
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    with tempfile.TemporaryDirectory() as work:
        report = soak(model_folder(Path(work) / "tiny"), seconds)
    print("\n".join(report.lines()))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
