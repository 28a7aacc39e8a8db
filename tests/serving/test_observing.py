"""What the server tells of itself: health, metrics, request ids, the log."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import parser

from openchat_cli.core.progress import SILENT
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving import metrics as exposition
from openchat_cli.serving.loading import Loading
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from tests.engine import tiny
from tests.serving.raw import CHAT, HELLO, answer, connect, metrics, request, until

SECRET = HELLO | {"messages": [{"role": "user", "content": "my secret"}]}
ALWAYS_A = {"logit_bias": {"65": 100}}


@pytest.fixture
def engine() -> Engine:
    return tiny.engine(tiny.llama(spread=0.02, context=512), slots=2, context=512)


@pytest.fixture
def serve(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Ready]]:
    running: list[Any] = []

    def begin(**settings: Any) -> Ready:
        made = ServeSettings(EngineSettings(Path("tiny")), port=0, max_tokens=4, **settings)
        context = background(made, load=lambda: engine)
        running.append(context)
        return context.__enter__()

    yield begin
    for context in running:
        context.__exit__(None, None, None)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_metrics_are_prometheus_text(serve: Callable[..., Ready]) -> None:
    url = serve().url
    shared = HELLO | {"messages": [{"role": "user", "content": "the same beginning"}]} | ALWAYS_A
    for _ in range(2):
        assert answer(url, request(shared | {"max_tokens": 3}))[0] == 200
    assert answer(url, request(b"{"))[0] == 400
    with connect(url) as raw:
        raw.sendall(request(shared | {"max_tokens": 400}))
        until(lambda: metrics(url)["openchat_slots_running"] == 1)
        assert metrics(url)["openchat_open_requests"] == 2  # and that for the metrics
    name = 'openchat_requests_total{method="POST",path="/v1/chat/completions",status="%s"}'
    until(lambda: name % 499 in metrics(url))
    found = metrics(url)
    assert found[name % 200] == 2
    assert found[name % 400] == 1
    prompt = 1 + len("U:the same beginning") + 1 + len("A:")
    assert found["openchat_prompt_tokens_total"] == 3 * prompt
    assert found["openchat_generated_tokens_total"] > 6
    assert found["openchat_prefix_cache_hits_total"] == 2
    assert found["openchat_prefix_cache_tokens_total"] == 2 * (prompt - 1)
    assert found["openchat_queue_depth"] == 0
    assert found["openchat_slots"] == 2
    assert found["openchat_ready"] == 1
    for histogram in ("time_to_first_token", "request", "queue"):
        counts = [
            value
            for key, value in found.items()
            if key.startswith(f"openchat_{histogram}_seconds_bucket")
        ]
        assert counts == sorted(counts)
        assert counts[-1] == found[f"openchat_{histogram}_seconds_count"] == 3
        assert found[f"openchat_{histogram}_seconds_sum"] >= 0


def test_the_page_can_be_read_by_prometheus(serve: Callable[..., Ready]) -> None:
    url = serve().url
    answer(url, request(HELLO))
    page = httpx2.get(url.removesuffix("/v1") + "/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in parser.text_string_to_metric_families(page.text)}
    assert families["openchat_requests"].type == "counter"
    assert families["openchat_time_to_first_token_seconds"].type == "histogram"
    assert families["openchat_queue_depth"].type == "gauge"


def test_exposition_escapes_and_sums() -> None:
    counter = exposition.Counter("a_total", "A.")
    counter.add(path='q"\\\n')
    counter.add(2, path="b")
    histogram = exposition.Histogram("h", "H.", (0.5, 1))
    for value in (0.5, 0.7, 9):
        histogram.observe(value)
    missing = exposition.Reading("m", "M.", lambda: None)
    assert exposition.page([counter, histogram, missing]).splitlines() == [
        "# HELP a_total A.",
        "# TYPE a_total counter",
        'a_total{path="b"} 2',
        'a_total{path="q\\"\\\\\\n"} 1',
        "# HELP h H.",
        "# TYPE h histogram",
        'h_bucket{le="0.5"} 1',
        'h_bucket{le="1"} 2',
        'h_bucket{le="+Inf"} 3',
        "h_sum 10.2",
        "h_count 3",
    ]


def test_loading_begins_with_nothing_known() -> None:
    loading = Loading(SILENT)
    assert loading.state() == {"stage": "starting", "done": 0, "total": None}
    with loading.task("a") as task:
        task.update(done=3, total=7)
    assert loading.state() == {"stage": "a", "done": 3, "total": 7, "unit": ""}


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("é", False)],
)
def test_request_ids(serve: Callable[..., Ready], given: str, kept: bool, tmp_path: Path) -> None:
    file = tmp_path / "log"
    url = serve(log_file=file).url + "/chat/completions"
    headers = [(b"X-Request-Id", given.encode("latin-1"))]
    for body in (HELLO, {"model": "none"}):
        got = httpx2.post(url, json=body, headers=headers)
        assert (got.headers["x-request-id"] == given) is kept
        until(lambda got=got: got.headers["x-request-id"] in file.read_text())  # type: ignore[misc]
    other = [httpx2.post(url, json=HELLO).headers["x-request-id"] for _ in range(2)]
    assert len({*other, given}) == 3


def test_the_log_is_a_json_line_a_request_with_timings(
    serve: Callable[..., Ready], tmp_path: Path
) -> None:
    file = tmp_path / "access.log"
    file.write_text('{"old": 1}\n')
    url = serve(log_file=file).url
    got = httpx2.post(url + "/chat/completions?key=sk-in-the-query", json=SECRET | ALWAYS_A)
    assert got.status_code == 200
    httpx2.post(url + "/chat/completions", content=b"my secret")
    until(lambda: len(lines(file)) == 3)
    old, line, refused = lines(file)
    assert old == {"old": 1}
    assert line["request_id"] == got.headers["x-request-id"]
    assert line["client"] == "127.0.0.1"
    assert (line["method"], line["path"], line["status"]) == ("POST", CHAT, 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (15, 4)
    assert 0 <= line["queue_seconds"] <= line["first_token_seconds"] <= line["seconds"] < 20
    assert line["outcome"] == "ok"
    assert line["time"].endswith("+00:00")
    assert (refused["status"], refused["outcome"]) == (415, "refused")
    assert refused["error"] == "unsupported_content_type"
    for word in ("secret", "AAAA", "sk-in"):
        assert word not in file.read_text()


def test_a_new_log_file_is_private_and_survives_rotation(
    serve: Callable[..., Ready], tmp_path: Path
) -> None:
    file = tmp_path / "access.log"
    root = serve(log_file=file).url.removesuffix("/v1")
    httpx2.get(root + "/health")
    until(lambda: len(lines(file)) == 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.rename(tmp_path / "access.log.1")
    httpx2.get(root + "/health")
    until(file.exists)
    until(lambda: len(lines(file)) == 1)
    assert len(lines(tmp_path / "access.log.1")) == 1


def test_what_was_said_is_only_logged_when_asked_for(
    serve: Callable[..., Ready], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "access.log"
    url = serve(log_file=file, log_content=True).url
    httpx2.post(url + "/chat/completions", json=SECRET | ALWAYS_A | {"n": 2})
    until(lambda: file.exists() and file.read_text())
    line = lines(file)[0]
    assert line["prompts"] == ["U:my secretA:"] * 2
    assert line["answers"] == ["AAAA", "AAAA"]
    assert "my secret" in caplog.text


def test_how_answers_ended_is_logged(serve: Callable[..., Ready], tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    url = serve(log_file=file, request_timeout=0.4).url
    forever = HELLO | ALWAYS_A | {"max_tokens": 480}
    for stream in (True, False):
        with connect(url) as raw:
            raw.sendall(request(forever | {"stream": stream}))
            until(lambda: metrics(url)["openchat_slots_running"] == 1)
    until(lambda: sum(line["path"] == CHAT for line in lines(file)) == 2)
    hung_up = [line for line in lines(file) if line["path"] == CHAT]
    assert {line["outcome"] for line in hung_up} == {"client_gone"}
    assert [line.get("status") for line in hung_up] in ([200, None], [None, 200])


def test_a_bug_is_500_with_the_id_and_no_words_of_the_user(
    serve: Callable[..., Ready],
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(prompts: list[list[int]], *_: object, **__: object) -> None:
        raise KeyError(bytes(token for token in prompts[0] if token < 256))

    url = serve().url
    monkeypatch.setattr(engine, "submit_together", broken)
    got = httpx2.post(url + "/chat/completions", json=SECRET)
    assert got.status_code == 500
    assert got.headers["x-request-id"] in got.json()["error"]["message"]
    assert got.json()["error"]["type"] == "server_error"
    until(lambda: "KeyError" in caplog.text)
    assert "submit_together" in caplog.text  # where it happened
    assert "secret" not in caplog.text
