"""What a server in front of another shows of itself: its start, /health, metrics, log, page."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.core import registry
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.serving.server import Ready, background
from tests.serving.broken import STREAM, Broken, answer, broken_server, event
from tests.serving.test_deploy import free_port
from tests.serving.test_upstream import front, until

END = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'
# Of a chat and of a text completion at once.
CHOICE = {"index": 0, "delta": {"content": "a"}, "text": "a", "finish_reason": "stop"}
SAID = STREAM + b"data: " + json.dumps({"choices": [CHOICE]}).encode() + b"\n\n" + END
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def behind() -> Iterator[Broken]:
    with broken_server() as state:
        yield state


@pytest.fixture(autouse=True)
def _clean(behind: Broken) -> None:
    behind.said, behind.then, behind.hold = SAID, None, False
    behind.asked.clear()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log.jsonl"


@pytest.fixture(scope="module")
def passed(behind: Broken, log: Path) -> Iterator[Ready]:
    """In front of it, without a template, and writing down what is said."""
    settings = front(behind.url, timeout=5.0)
    settings = dataclasses.replace(settings, log_file=log, log_content=True, request_timeout=0.5)
    with background(settings) as ready:
        yield ready


def ask(server: Ready, path: str, **body: Any) -> httpx2.Response:
    body = {"model": "behind", **body}
    return httpx2.post(server.url.removesuffix("/v1") + path, json=body, timeout=30)


def line_of(got: httpx2.Response, log: Path) -> dict[str, Any]:
    """The log's line of a request, which is written after its answer."""
    found: list[dict[str, Any]] = []
    request = got.headers["x-request-id"]

    def written() -> bool:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        found[:] = [line for line in lines if line.get("request_id") == request]
        return bool(found)

    until(written)
    return found[0]


def test_roles_that_every_server_knows_are_passed_on(passed: Ready, behind: Broken) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
    ]
    assert ask(passed, "/v1/chat/completions", messages=messages).status_code == 200
    sent = json.loads(behind.asked[0].partition(b"\r\n\r\n")[2])
    assert [(one["role"], one["content"]) for one in sent["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", '{"name": "f", "arguments": "{}"}'),
        ("user", "42"),
    ]


def test_tokens_are_the_upstreams_own(passed: Ready) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [10**6]})):
        got = ask(passed, path, **body)
        assert (got.status_code, got.json()["error"]["code"]) == (404, "no_tokenizer")
    info = httpx2.get(passed.url.replace("/v1", "/tokenizer_info"))
    assert info.status_code == 404
    got = ask(passed, "/v1/completions", prompt=[10**6, 5])
    assert got.json()["usage"]["prompt_tokens"] == 2


def test_each_prompt_is_counted(passed: Ready) -> None:
    got = ask(passed, "/v1/completions", prompt=["a", "b"], n=2)
    assert got.json()["usage"] == {
        "prompt_tokens": 14,
        "completion_tokens": 8,
        "total_tokens": 22,
    }
    options = {"stream": True, "stream_options": {"include_usage": True}}
    got = ask(passed, "/v1/completions", prompt=["a", "b"], n=2, **options)
    usage = json.loads(got.text.split("data: ")[-2])["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (14, 8)


def test_the_log_tells_how_it_ended(passed: Ready, behind: Broken, log: Path) -> None:
    path = "/v1/chat/completions"
    line = line_of(ask(passed, path, **HELLO), log)
    assert (line["outcome"], line["prompt_tokens"], line["completion_tokens"]) == ("ok", 7, 2)
    assert (line["prompts"], line["answers"]) == (["user: Hello"], ["a"])
    assert 0 <= line["first_token_seconds"] < 5
    behind.said = answer(429, {}, "Retry-After: 3")
    for stream in (False, True):
        line = line_of(ask(passed, path, stream=stream, **HELLO), log)
        assert (line["outcome"], line["error"]) == ("refused", "rate_limit_exceeded")
    behind.said = STREAM + event("a")
    for stream in (False, True):
        line = line_of(ask(passed, path, stream=stream, **HELLO), log)
        assert (line["outcome"], line["error"]) == ("failed", "upstream_failed")


@pytest.mark.parametrize("stream", [False, True])
def test_time_runs_out_before_the_upstream_speaks(
    stream: bool, passed: Ready, behind: Broken
) -> None:
    behind.said, behind.hold = b"", True
    got = ask(passed, "/v1/chat/completions", stream=stream, **HELLO)
    assert (got.status_code, got.json()["error"]["code"]) == (504, "request_timeout")
    until(lambda: behind.asked[-1] == b"gone", 5)  # and it is not kept busy


def test_metrics_and_the_page(passed: Ready) -> None:
    ask(passed, "/v1/chat/completions", **HELLO)
    root = passed.url.removesuffix("/v1")
    lines = httpx2.get(root + "/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values["openchat_ready"] == "1"
    assert float(values["openchat_generated_tokens_total"]) >= 2
    assert float(values["openchat_prompt_tokens_total"]) >= 7
    page = httpx2.get(root + "/")
    assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")


def test_the_start_screen() -> None:
    urls: list[str] = []
    with broken_server() as state:
        fine, state.models = state.models, answer(503)
        process = subprocess.Popen(
            [sys.executable, "-m", "openchat_cli", "serve", "--upstream", state.url, "--port=0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            assert "waiting for the upstream" in process.stderr.readline()
            state.models = fine
            for line in process.stderr:
                urls += [line.split()[1]] if line.startswith("API ") else []
                if line.startswith("upstream "):
                    assert line.split() == ["upstream", f"{state.url},", "model", "behind"]
                if line.startswith("context "):
                    assert line.split() == ["context", "512", "tokens"]
                if "openchat chat --url" in line:
                    break
            assert httpx2.get(urls[0].replace("/v1", "/health")).json()["status"] == "ok"
        finally:
            process.kill()
            process.communicate()


def test_health_tells_what_is_waited_for() -> None:
    with broken_server() as state:
        state.models, fine = answer(503), state.models
        told: list[dict[str, Any]] = []

        port = free_port()
        settings = dataclasses.replace(front(state.url), port=port)

        def look() -> None:
            def found() -> bool:
                try:
                    got = httpx2.get(f"http://127.0.0.1:{port}/health")
                except httpx2.HTTPError:
                    return False
                told.append({"code": got.status_code, **got.json()})
                return told[-1].get("stage") != "starting"

            until(found)
            state.models = fine

        watcher = threading.Thread(target=look)
        watcher.start()
        with background(settings):
            watcher.join()
    assert told[-1]["code"] == 503
    assert (told[-1]["status"], told[-1]["stage"]) == ("loading", "waiting for the upstream")
    assert state.url not in json.dumps(told)


def test_a_template_by_its_name_on_the_hub(
    folder: Path, behind: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny-chat"
    kept = repository / "snapshots" / commit
    kept.mkdir(parents=True)
    for name in ("tokenizer.json", "openchat.json", "config.json"):
        shutil.copy(folder / name, kept)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "openchat_cli", "serve", "--upstream", behind.url, "--json"),
            *("--model-path", "someone/tiny-chat", "--port=0", "--max-concurrency=3"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        facts = {"model": "openchat", "model_type": "openchat", "slots": 3, "context": 512}
        facts |= {"upstream": behind.url, "upstream_model": "behind"}
        assert facts.items() <= ready.items()
        assert "device" not in ready
        body = {"model": "someone/tiny-chat", **HELLO}
        got = httpx2.post(ready["url"] + "/chat/completions", json=body)
        assert got.status_code == 200
        sent = json.loads(behind.asked[0].partition(b"\r\n\r\n")[2])
        assert all(isinstance(token, int) for token in sent["prompt"])
    finally:
        process.kill()
        process.communicate()


def test_vllm_names_tokens_by_their_ids(folder: Path) -> None:
    """Only so are the bytes known of a token that is part of a character."""
    kind = registry.get("openchat")
    tokenizer = load_tokenizer(folder, kind)
    start = tokenizer.encode("\u00e9")[-2:]  # two bytes, a token each
    logprobs = {
        "tokens": [f"token_id:{token}" for token in start],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{f"token_id:{token}": -0.5} for token in start],
        "text_offset": [0, 0],
    }
    choice = {"index": 0, "text": "\u00e9", "logprobs": logprobs, "finish_reason": "length"}
    body = {"model": "openchat", "logprobs": True, "top_logprobs": 1, **HELLO}
    with broken_server() as state:
        state.said = STREAM + b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
        for owner in ("vllm", "somebody"):
            card = {"id": "behind", "object": "model", "owned_by": owner}
            state.models = answer(200, {"data": [card]})
            with background(front(state.url, model_path=folder)) as ready:
                got = httpx2.post(ready.url + "/chat/completions", json=body, timeout=30)
            sent = json.loads(state.asked[-1].partition(b"\r\n\r\n")[2])
            assert ("return_tokens_as_token_ids" in sent) == (owner == "vllm")
            assert got.status_code == 200
            entries = got.json()["choices"][0]["logprobs"]["content"]
            assert [one["bytes"] for one in entries] == [[0xC3], [0xA9]]
