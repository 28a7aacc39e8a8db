"""What the whole server counts: open requests, the metrics, whether it is stopping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openchat_cli.serving.metrics import (
    Counter,
    Histogram,
    Metric,
    Reading,
    open_files,
    page,
    resident_bytes,
)
from openchat_cli.serving.record import Record

if TYPE_CHECKING:
    from openchat_cli.serving.backend import Backend

# Paths outside of these count as "other", or a scanner could fill the memory with labels.
_PATHS = {
    *("/", "/health", "/metrics", "/version", "/openapi.json"),
    *("/tokenize", "/detokenize", "/tokenizer_info"),
    *("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses"),
}
_METHODS = {"GET", "POST", "HEAD", "OPTIONS"}
# As nginx has it: the client hung up before there was an answer.
_CLIENT_GONE = "499"


class Watch:
    """Written by the middleware on the loop's thread."""

    def __init__(self) -> None:
        self.draining = False
        self.open: set[Record] = set()
        self.engine: Backend | None = None
        self.loaded_at: float | None = None
        self._began = time.time()
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests = Counter("openchat_requests_total", "Requests answered.")
        self._outcomes = Counter("openchat_outcomes_total", "How answers by the model ended.")
        self._first = Histogram(
            "openchat_time_to_first_token_seconds", "From a request's arrival to its first token."
        )
        self._queue = Histogram("openchat_queue_seconds", "Time spent waiting for a slot.")
        self._whole = Histogram(
            "openchat_request_seconds", "Time from a request's arrival to the end of its answer."
        )

    def begins(self, record: Record) -> None:
        """A request has come."""
        self.open.add(record)
        self._idle.clear()

    def ends(self, record: Record) -> None:
        """A request has its answer, or nobody waits for it any more."""
        self.open.discard(record)
        if not self.open:
            self._idle.set()
        if record.outcome is None:
            record.outcome = "ok" if record.status is not None else "client_gone"
        self._requests.add(
            path=_path(record.path),
            method=record.method if record.method in _METHODS else "other",
            status=_CLIENT_GONE if record.status is None else str(record.status),
        )
        if record.generations:
            self._outcomes.add(outcome=record.outcome)
            self._whole.observe(time.perf_counter() - record.began)
            for seconds, histogram in (
                (record.first_token_seconds, self._first),
                (record.queue_seconds, self._queue),
            ):
                if seconds is not None:
                    histogram.observe(seconds)

    async def idle(self) -> None:
        """Wait until no request is open."""
        await self._idle.wait()

    def page(self) -> str:
        """The metrics, as Prometheus reads them."""
        return page([*self._own(), *self._of_engine(), *_of_process(self._began)])

    def _own(self) -> Sequence[Metric]:
        return [
            self._requests,
            self._outcomes,
            self._first,
            self._queue,
            self._whole,
            Reading("openchat_open_requests", "Requests being answered.", lambda: len(self.open)),
            Reading("openchat_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks())),
            Reading("openchat_draining", "1 once the server is stopping.", lambda: self.draining),
        ]

    def _of_engine(self) -> Sequence[Metric]:
        engine = self.engine
        if engine is None:
            return [Reading("openchat_ready", "1 once the model is loaded.", lambda: 0)]
        load, totals = engine.load_now(), engine.totals
        well = engine.failure is None and engine.trouble is None
        gauges: list[tuple[str, str, float]] = [
            ("openchat_ready", "1 while the engine answers.", well),
            ("openchat_slots", "Answers that can be written at once.", engine.slots),
            ("openchat_slots_running", "Answers being written.", load.answering),
            ("openchat_queue_depth", "Answers that wait for a slot.", load.waiting),
        ]
        counters: list[tuple[str, str, float]] = [
            ("openchat_prompt_tokens_total", "Tokens of prompts that got a slot.", totals.prompt),
            ("openchat_generated_tokens_total", "Tokens sampled.", totals.generated),
            ("openchat_prefix_cache_hits_total", "Prompts begun from a copy.", totals.hits),
            ("openchat_prefix_cache_tokens_total", "Tokens not read again.", totals.reused),
            ("openchat_preemptions_total", "Times a long answer gave way.", totals.preempted),
            ("openchat_steps_total", "Steps of the engine.", totals.steps),
        ]
        return [Reading(name, text, _constant(value)) for name, text, value in gauges] + [
            Reading(name, text, _constant(value), "counter") for name, text, value in counters
        ]


def _constant(value: float) -> Callable[[], float]:
    return lambda: value


def _of_process(began: float) -> Sequence[Metric]:
    return [
        Reading("process_resident_memory_bytes", "Memory in use.", resident_bytes),
        Reading("process_open_fds", "Open files and sockets.", open_files),
        Reading("process_cpu_seconds_total", "Processor time used.", time.process_time, "counter"),
        Reading("process_start_time_seconds", "When the server began.", lambda: began),
    ]


def _path(path: str) -> str:
    if path in _PATHS:
        return path
    return "/v1/models/{model}" if path.startswith("/v1/models/") else "other"
