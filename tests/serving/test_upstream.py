"""`--upstream` against a real server of ours: the same answers as asked directly, over sockets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.upstream_settings import UpstreamSettings
from tests.serving.folders import model_folder

KEY = "sk-upstream"
TALK = [
    {"role": "system", "content": "Be <|end_of_turn|> brief."},
    {"role": "user", "content": "Hello the world"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "the </s> world\u2028 é"},
]
NEVER_ENDS = {"logit_bias": {"368": -100}}


@pytest.fixture(scope="module")
def upstream(folder: Path) -> Iterator[Ready]:
    """The server behind, with a key of its own."""
    engine = EngineSettings(model_path=folder, max_slots=8, threads=1)
    settings = ServeSettings(engine=engine, port=0, api_keys=(KEY,), max_tokens=16)
    with background(settings) as ready:
        yield ready


def front(url: str, **changes: Any) -> ServeSettings:
    serve = {key: changes.pop(key) for key in ("api_keys", "name") if key in changes}
    settings = UpstreamSettings(url, **{"key": KEY, "check_seconds": 0.1, **changes})
    return ServeSettings(
        EngineSettings(model_path=Path()),
        port=0,
        max_tokens=16,
        shutdown_seconds=1,
        upstream=settings,
        **serve,
    )


@pytest.fixture(scope="module")
def rendered(upstream: Ready, folder: Path) -> Iterator[Ready]:
    """In front of it, with the template of the model's folder."""
    with background(front(upstream.url, model_path=folder)) as ready:
        yield ready


@pytest.fixture(scope="module")
def passed(upstream: Ready) -> Iterator[Ready]:
    """In front of it, without a template."""
    with background(front(upstream.url)) as ready:
        yield ready


def ask(server: Ready, path: str, **body: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "openchat", **body}
    return httpx2.post(server.url + path, json=body, headers=headers, timeout=60)


def without_names(body: dict[str, Any]) -> dict[str, Any]:
    """The same for every server: all but ids and times."""
    return {key: value for key, value in body.items() if key not in ("id", "created")}


def close(found: Any, expected: Any) -> bool:
    """Equal but for the last digits of numbers, which depend on what else is answered."""
    if isinstance(expected, float):
        return isinstance(found, float) and abs(found - expected) < 1e-4
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            close(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(found == expected)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def answering(server: Ready) -> int:
    found: int = httpx2.get(server.url.replace("/v1", "/health")).json()["answering"]
    return found


CHATS: list[dict[str, Any]] = [
    {"messages": TALK, "temperature": 0},
    {"messages": TALK, "temperature": 0, "logprobs": True, "top_logprobs": 3},
    {"messages": TALK, "temperature": 0, "logprobs": True},
    {"messages": TALK, "seed": 7, "n": 3, "temperature": 1},
    {"messages": TALK, "temperature": 0, "max_tokens": 3, "stop": ["w", "q"]},
    {"messages": TALK, "seed": 1, "top_k": 5, "min_p": 0.01, "presence_penalty": 0.5},
    {"messages": TALK, "seed": 1, "frequency_penalty": 1, "repetition_penalty": 1.2},
    {"messages": TALK, "seed": 1, "stop_token_ids": [300], "max_tokens": 50, **NEVER_ENDS},
]


@pytest.mark.parametrize("body", CHATS, ids=range(len(CHATS)))
@pytest.mark.parametrize("way", ["rendered", "passed"])
def test_a_chat_gets_the_upstreams_own_answer(
    body: dict[str, Any], way: str, upstream: Ready, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(way)
    direct, got = (ask(one, "/chat/completions", **body) for one in (upstream, server))
    assert direct.status_code == got.status_code == 200
    assert close(without_names(got.json()), without_names(direct.json()))


COMPLETIONS: list[dict[str, Any]] = [
    {"prompt": "Hello the world", "temperature": 0},
    {"prompt": ["Hello", "the world"], "temperature": 0, "logprobs": 2},
    {"prompt": [1, 300, 301, 290], "temperature": 0, "n": 2, "logprobs": 0},
    {"prompt": "Hello the world", "temperature": 0, "echo": True, "logprobs": 1},
    {"prompt": "Hello the world", "echo": True, "logprobs": 1, "max_tokens": 0},
    {"prompt": [[1, 300, 301], [1, 305]], "temperature": 0, "echo": True},
]


@pytest.mark.parametrize("body", COMPLETIONS, ids=range(len(COMPLETIONS)))
@pytest.mark.parametrize("way", ["rendered", "passed"])
def test_a_completion_gets_the_upstreams_own_answer(
    body: dict[str, Any], way: str, upstream: Ready, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(way)
    direct, got = (ask(one, "/completions", **body) for one in (upstream, server))
    assert direct.status_code == got.status_code == 200, got.text
    expected, found = without_names(direct.json()), without_names(got.json())
    assert close(found, expected), (found, expected)


def events(server: Ready, path: str, **body: Any) -> list[Any]:
    text = ask(server, path, stream=True, **body).text
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_stream_keeps_the_protocols_facts(rendered: Ready, passed: Ready) -> None:
    for server in (rendered, passed):
        body = {"messages": TALK, "temperature": 0, "n": 2, "logprobs": True, "top_logprobs": 2}
        options = {"stream_options": {"include_usage": True}}
        whole = ask(server, "/chat/completions", **body).json()
        *chunks, usage, done = events(server, "/chat/completions", **body, **options)
        assert done == "[DONE]"
        assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
        assert all(chunk["usage"] is None for chunk in chunks)
        for index, choice in enumerate(whole["choices"]):
            own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
            assert own[0]["delta"] == {"role": "assistant", "content": ""}
            text = "".join(one["delta"].get("content", "") for one in own)
            assert text == choice["message"]["content"]
            listed = [e for one in own if one["logprobs"] for e in one["logprobs"]["content"]]
            assert close(listed, choice["logprobs"]["content"])
            reasons = [one["finish_reason"] for one in own if one["finish_reason"]]
            assert reasons == [choice["finish_reason"]] == [own[-1]["finish_reason"]]


def test_the_openai_client_streams_through(rendered: Ready) -> None:
    with openai.OpenAI(base_url=rendered.url, api_key="any") as client:
        assert [model.id for model in client.models.list()] == ["openchat"]
        said = client.chat.completions.create(
            model="openchat", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        assert list(said)[-1].choices[0].finish_reason


def test_refusals_come_before_the_stream(rendered: Ready, passed: Ready, upstream: Ready) -> None:
    long = [{"role": "user", "content": "x " * 3000}]
    for server in (rendered, passed):
        for stream in (False, True):
            got = ask(server, "/chat/completions", messages=long, stream=stream)
            assert got.status_code == 400
            error = got.json()["error"]
            assert error["code"] == "context_length_exceeded"
            assert "Please reduce" in error["message"]
        got = ask(server, "/completions", prompt=[1, 99999])
        assert got.status_code == 400, got.text
        got = ask(server, "/chat/completions", messages=TALK, tools=[{}])
        assert got.json()["error"]["code"] == "unsupported_parameter"
    assert answering(upstream) == 0


def test_names(upstream: Ready, folder: Path) -> None:
    with background(front(upstream.url, model_path=folder, name="ours")) as ready:
        assert httpx2.get(ready.url + "/models").json()["data"][0]["id"] == "ours"
        assert ask(ready, "/completions", prompt="a", model="openchat").status_code == 404
        got = ask(ready, "/completions", prompt="a", model="ours", max_tokens=1)
        assert got.json()["model"] == "ours"
    with pytest.raises(Exception, match="key"), background(front(upstream.url, key="sk-wrong")):
        pass


@pytest.mark.parametrize("way", ["rendered", "passed"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_reaches_the_upstream(
    way: str, stream: bool, upstream: Ready, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(way)
    body = {"messages": TALK, "max_tokens": 1900, "n": 4, **NEVER_ENDS}

    async def hang_up() -> None:
        async with httpx2.AsyncClient(timeout=60) as http:
            sending = http.build_request(
                "POST",
                server.url + "/chat/completions",
                json={"model": "openchat", "stream": stream, **body},
            )
            asked = asyncio.create_task(http.send(sending, stream=True))
            for _ in range(500):
                if await asyncio.to_thread(answering, upstream) == 4:
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("the upstream was not asked")
            asked.cancel()
            if stream:
                await (await asked).aclose() if asked.done() and not asked.cancelled() else None

    asyncio.run(hang_up())
    began = time.monotonic()
    until(lambda: answering(upstream) == 0, 5)
    assert time.monotonic() - began < 2
    until(lambda: answering(server) == 0, 5)


def test_the_queue_has_a_limit(upstream: Ready, folder: Path) -> None:
    settings = front(upstream.url, model_path=folder, max_concurrency=2, queue_size=1)
    body = {"messages": TALK, "max_tokens": 1900, **NEVER_ENDS}
    with background(settings) as ready:
        got: list[httpx2.Response] = []
        for _ in range(5):
            work = lambda: got.append(ask(ready, "/chat/completions", **body))  # noqa: E731  # short
            threading.Thread(target=work, daemon=True).start()
        until(lambda: len(got) == 2)
        assert {one.status_code for one in got} == {429}
        assert got[0].headers["retry-after"]
        assert "Rate limit" in got[0].json()["error"]["message"]
        load = httpx2.get(ready.url.replace("/v1", "/health")).json()
        assert (load["answering"], load["waiting"]) == (2, 1)
        until(lambda: answering(upstream) == 2)
    until(lambda: answering(upstream) == 0)


def test_keys_on_both_sides(
    upstream: Ready, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with background(front(upstream.url, model_path=folder, api_keys=("sk-ours",))) as ready:
        url = ready.url + "/completions"
        body = {"model": "openchat", "prompt": "a", "max_tokens": 1}
        for key, status in (("sk-ours", 200), (KEY, 401), ("sk-other", 401)):
            got = httpx2.post(url, json=body, headers={"Authorization": f"Bearer {key}"})
            assert got.status_code == status
    assert "sk-" not in caplog.text
    assert KEY not in repr(front(upstream.url))


def test_an_environments_proxy_stays_out(upstream: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with background(front(upstream.url)) as ready, httpx2.Client(trust_env=False) as http:
        body = {"model": "openchat", "prompt": "a", "max_tokens": 1}
        assert http.post(ready.url + "/completions", json=body).status_code == 200


def test_openchat_35_is_rendered_here(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", name="openchat_3.5", context=4096)
    engine = EngineSettings(model_path=folder, max_slots=2, threads=1)
    with background(ServeSettings(engine, port=0)) as behind:
        settings = front(behind.url, key=None, model_path=folder)
        with background(settings) as ready:
            body = {"model": "openchat_3.5", "messages": TALK, "temperature": 0, "max_tokens": 9}
            direct, got = (ask(one, "/chat/completions", **body) for one in (behind, ready))
    assert without_names(got.json()) == without_names(direct.json())


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "127.0.0.1:8000", "http://u:secret@host/v1", "http://h/v1?key=secret"]
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        UpstreamSettings(url)
    assert "secret" not in caught.value.message + str(caught.value.hint)


def test_a_folder_that_is_no_chat_model(upstream: Ready, tmp_path: Path) -> None:
    with pytest.raises(InputError), background(front(upstream.url, model_path=tmp_path / "none")):
        pass


def test_nothing_heavy_is_loaded(upstream: Ready, folder: Path) -> None:
    """No torch where no model runs: such a server fits a small machine."""
    code = (
        "import sys, httpx2\n"
        "from pathlib import Path\n"
        "from openchat_cli.engine.settings import EngineSettings\n"
        "from openchat_cli.serving.server import background\n"
        "from openchat_cli.serving.settings import ServeSettings\n"
        "from openchat_cli.serving.upstream_settings import UpstreamSettings\n"
        f"url, key, folder = {upstream.url!r}, {KEY!r}, Path({str(folder)!r})\n"
        "behind = UpstreamSettings(url, key=key, model_path=folder)\n"
        "settings = ServeSettings(EngineSettings(Path()), port=0, upstream=behind)\n"
        "with background(settings) as ready:\n"
        "    body = {'model': 'openchat', 'prompt': 'a', 'max_tokens': 1}\n"
        "    print(httpx2.post(ready.url + '/completions', json=body).status_code)\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'openai'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.split("\n")[:2] == ["200", "[]"], ended.stderr
