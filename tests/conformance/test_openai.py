"""The openai client over a socket: what the project's own tests leave out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from .conftest import MODEL, Server

openai = pytest.importorskip("openai", minversion="3")

pytestmark = pytest.mark.slow  # `make test-slow` runs it too: the project has this client

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
LETTER_Z = str(3 + 256 + 1 + ord("Z") - 33)  # tokens of the folder made on the spot
END = "368"  # its end-of-turn token
Serving = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def client(server: Server) -> Any:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_raw_responses(client: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().choices[0].message.role == "assistant"
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(model=MODEL, messages=HELLO, stream=True) as response:
        assert list(response.iter_lines())[-2:] == ["data: [DONE]", ""]


def test_the_streaming_helper(client: Any) -> None:
    # Some Z, then the end of the turn: the helper does not take an unfinished answer.
    options: dict[str, Any] = {"model": MODEL, "messages": HELLO, "temperature": 0}
    options |= {"logit_bias": {LETTER_Z: 100, END: 96}, "frequency_penalty": 2}
    with client.chat.completions.stream(
        **options, stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.done" in kinds
    whole = client.chat.completions.create(**options)
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert set(final.choices[0].message.content) == {"Z"}


def test_logprobs_in_a_stream(client: Any) -> None:
    options = {"model": MODEL, "messages": HELLO, "seed": 1, "logprobs": True, "top_logprobs": 3}
    found = []
    for chunk in client.chat.completions.create(**options, stream=True):
        logprobs = chunk.choices[0].logprobs
        found += [entry.token for entry in logprobs.content] if logprobs else []
    whole = client.chat.completions.create(**options).choices[0].logprobs.content
    assert found == [entry.token for entry in whole]


def test_completions_in_every_form(client: Any) -> None:
    for prompt, count in (("Hello", 1), (["Hello", "a"], 2), ([5, 300], 1), ([[5], [6, 7]], 2)):
        made = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, n=2, logprobs=2)
        assert len(made.choices) == 2 * count
        streamed = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, stream=True)
        assert {chunk.choices[0].index for chunk in streamed} == set(range(count))
    looked = client.completions.create(
        model=MODEL, prompt="Hello world", max_tokens=0, echo=True, logprobs=1
    )
    assert looked.choices[0].text == "Hello world"
    assert looked.choices[0].logprobs.token_logprobs[0] is None


def test_async(server: Server) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            whole = await client.chat.completions.create(model=MODEL, messages=HELLO, seed=2)
            stream = await client.chat.completions.create(
                model=MODEL, messages=HELLO, seed=2, stream=True
            )
            text = "".join([c.choices[0].delta.content or "" async for c in stream])
            assert text == whole.choices[0].message.content
            plain = await client.completions.create(model=MODEL, prompt="a", max_tokens=2)
            assert plain.choices[0].finish_reason in ("stop", "length")
            assert [model.id async for model in client.models.list()] == [MODEL]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("error", "code", "extra"),
    [
        ("NotFoundError", "model_not_found", {"model": "gpt-4"}),
        ("BadRequestError", "invalid_type", {"temperature": "hot"}),
        ("BadRequestError", "unsupported_parameter", {"tools": [{"type": "function"}]}),
        ("BadRequestError", "unsupported_parameter", {"response_format": {"type": "json_object"}}),
        (
            "BadRequestError",
            "context_length_exceeded",
            {"messages": [{"role": "user", "content": "x" * 9000}]},
        ),
    ],
)
def test_errors_have_their_classes(client: Any, error: str, code: str, extra: Any) -> None:
    with pytest.raises(getattr(openai, error)) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **extra})
    assert caught.value.code == code
    assert caught.value.request_id.startswith("req_")


def test_what_is_not_there(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="Responses API"):
        client.responses.create(model=MODEL, input="Hello")
    with pytest.raises(openai.NotFoundError, match="no embeddings"):
        client.embeddings.create(model=MODEL, input="Hello")


def test_keys(serving: Serving) -> None:
    with serving(keys="sk-right") as server:
        right = openai.OpenAI(base_url=server.url, api_key="sk-right", max_retries=0)
        assert right.models.list().data[0].id == MODEL
        wrong = openai.OpenAI(base_url=server.url, api_key="sk-wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            wrong.chat.completions.create(model=MODEL, messages=HELLO)
        assert caught.value.code == "invalid_api_key"


def test_a_full_server_is_tried_again(serving: Serving) -> None:
    with serving("--max-slots", 1, "--queue-size", 1) as server:
        impatient = openai.OpenAI(base_url=server.url, api_key="x", max_retries=0)
        busy = {"model": MODEL, "messages": HELLO, "max_tokens": 1500, "logit_bias": {"300": 100}}
        streams = [impatient.chat.completions.create(**busy, stream=True) for _ in range(2)]
        with pytest.raises(openai.RateLimitError, match="Rate limit") as caught:
            impatient.chat.completions.create(**busy)
        assert caught.value.response.headers["retry-after"]

        def free_soon() -> None:
            time.sleep(1.5)
            for stream in streams:
                stream.close()

        thread = threading.Thread(target=free_soon)
        thread.start()
        patient = openai.OpenAI(base_url=server.url, api_key="x", max_retries=8)
        made = patient.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)
        thread.join()
        assert made.choices[0].finish_reason in ("stop", "length")
