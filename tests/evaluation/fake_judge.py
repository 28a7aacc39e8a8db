"""An OpenAI-compatible server over a real socket that judges, answers, and fails in every way.

What it says follows from the request alone, so that a call repeated gives the same. Faults are
drawn from the seed, the request and how often it came before: a rerun meets the same ones.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]


@dataclass
class Plan:
    """How the server behaves; the shares of the faults are drawn from one number each time."""

    latency: float = 0.0  # seconds before a reply
    refuse: tuple[str, ...] = ()  # parameters that get 400
    silent_refusal: bool = False  # without naming the parameter
    too_many: float = 0.0  # share of 429
    retry_after: float | None = 0.2  # seconds told with a 429
    broken: float = 0.0  # share of 500, 502, 503
    hang: float = 0.0  # share that never comes back
    cut: float = 0.0  # share cut off in mid-body
    truncated: float = 0.0  # share of replies cut by finish_reason "length"
    garbage: float = 0.0  # share of verdicts that can't be read
    empty: float = 0.0  # share without content
    always: int | None = None  # one status for everything
    error_code: str | None = None
    key: str | None = None  # the key that is asked for
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """One request that came in."""

    at: float
    id: str
    body: Body
    path: str
    headers: Mapping[str, str] = field(repr=False)


class FakeJudge:
    """The server; a context manager. `seen` and `answered` tell what happened."""

    def __init__(self, **plan: Any) -> None:
        self.plan = Plan(**plan)
        self.seen: list[Seen] = []
        self.answered: Counter[str] = Counter()  # request id -> replies with 200
        self.statuses: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.judge = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def forget(self) -> None:
        """Start counting anew."""
        with self.lock:
            self.seen.clear()
            self.answered.clear()
            self.statuses.clear()
            self.most_under_way = 0

    def bodies(self) -> list[Body]:
        return [seen.body for seen in self.seen]


def request_id(body: Body) -> str:
    """What tells requests apart, whatever parameters were dropped from them."""
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:16]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    judge: FakeJudge

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is part of the plan."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        judge = self.server.judge
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        name = request_id(body)
        with judge.lock:
            times = sum(seen.id == name for seen in judge.seen)
            headers = {header.lower(): text for header, text in self.headers.items()}
            judge.seen.append(Seen(time.monotonic(), name, body, self.path, headers))
            judge.under_way += 1
            judge.most_under_way = max(judge.most_under_way, judge.under_way)
        try:
            self._answer(judge, body, name, times)
        finally:
            with judge.lock:
                judge.under_way -= 1

    def _answer(self, judge: FakeJudge, body: Body, name: str, times: int) -> None:
        plan = judge.plan
        if plan.key is not None and self.headers["Authorization"] != f"Bearer {plan.key}":
            return self._error(401, f"Incorrect API key provided: {self.headers['Authorization']}")
        if plan.always is not None:
            return self._error(plan.always, "always so", code=plan.error_code)
        refused = next((item for item in plan.refuse if item in body), None)
        if refused is not None:
            said = f"Unsupported parameter: '{refused}' is not supported with this model."
            if plan.silent_refusal:
                return self._error(400, "Bad Request")
            return self._error(400, said, code="unsupported_parameter", param=refused)
        time.sleep(plan.latency)
        draw = random.Random(f"{plan.seed} {name} {times}").random()
        for fault in ("too_many", "broken", "hang", "cut", "truncated", "garbage", "empty"):
            draw -= getattr(plan, fault)
            if draw < 0:
                return self._fault(fault, judge, body, name, times)
        return self._reply(judge, name, verdict(body))

    def _fault(self, fault: str, judge: FakeJudge, body: Body, name: str, times: int) -> None:
        if fault == "too_many":
            pause = judge.plan.retry_after
            headers = {} if pause is None else {"retry-after-ms": str(int(pause * 1000))}
            return self._error(429, "Rate limit reached", code="rate_limit_exceeded", more=headers)
        if fault == "broken":
            return self._error((500, 502, 503)[times % 3], "the server broke")
        judge.statuses[fault] += 1
        if fault == "hang":
            self._until_gone()
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"id": "x", "choices": [{"mess')
            self.close_connection = True
        elif fault == "truncated":
            self._reply(judge, name, '{"evidence": "Assistant 1: 8', finish="length")
        elif fault == "garbage":
            self._reply(judge, name, "I can't rate these answers.")
        else:
            self._reply(judge, name, "")
        return None

    def _until_gone(self) -> None:
        """Say nothing until the client gives up."""
        self.connection.settimeout(20)
        try:
            while self.connection.recv(1024):
                pass
        except (TimeoutError, OSError):
            pass
        self.close_connection = True

    def _reply(self, judge: FakeJudge, name: str, text: str, finish: str = "stop") -> None:
        reply = {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion",
            "created": 0,
            "model": "fake",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
        with judge.lock:
            judge.answered[name] += 1
            judge.statuses["200"] += 1
        self._send(200, reply)

    def _error(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        with self.server.judge.lock:
            self.server.judge.statuses[str(status)] += 1
        error = {"message": message, "type": "error", "param": param, "code": code}
        self._send(status, {"error": error}, more)

    def _send(self, status: int, value: Body, more: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for header, text in {"Content-Type": "application/json", **(more or {})}.items():
            self.send_header(header, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def verdict(body: Body) -> str:
    """What is said without a fault: a verdict about two answers, or an answer.

    The longer answer is better; the first one shown gets half a point for its place.
    """
    said = body["messages"][-1]["content"]
    shown = next(
        (found for message in body["messages"] if len(found := _answers(message["content"])) == 2),
        None,
    )
    if shown is None:
        return f"You said: {said}"
    first, second = (min(9.0, 2 + len(text) // 10) for text in shown)
    if "response_format" in body:
        scores = {"assistant_1_score": first + 0.5, "assistant_2_score": second}
        return json.dumps({"evidence": "Length counts. <b>[1, 2]</b>", **scores})
    return f"Length counts.\n\n[{first + 0.5}, {second}]"


def _answers(text: str) -> list[str]:
    pattern = r"\[Answer of Assistant \d begins\]\n(.*?)\n\[Answer of Assistant \d ends\]"
    return re.findall(pattern, text, re.DOTALL)


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
