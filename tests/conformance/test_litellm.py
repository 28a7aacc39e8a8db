"""LiteLLM, through its OpenAI-compatible providers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from .conftest import MODEL, Server

litellm = pytest.importorskip("litellm")
litellm.suppress_debug_info = True

HELLO = [{"role": "user", "content": "Hello"}]
Serving = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def chat(server: Server) -> dict[str, Any]:
    return {
        "model": f"openai/{MODEL}",
        "api_base": server.url,
        "api_key": "none",
        "messages": HELLO,
        "max_tokens": 6,
        "seed": 4,
        "num_retries": 0,
    }


def test_completion(chat: dict[str, Any]) -> None:
    made = litellm.completion(**chat, n=2, stop=["~"], user="me")
    assert len(made.choices) == 2
    assert made.choices[0].finish_reason in ("stop", "length")
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


def test_a_stream(chat: dict[str, Any]) -> None:
    whole = litellm.completion(**chat).choices[0].message.content
    stream = litellm.completion(**chat, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert any(getattr(chunk, "usage", None) for chunk in chunks)


def test_async(chat: dict[str, Any]) -> None:
    async def ask() -> tuple[str, str]:
        whole = await litellm.acompletion(**chat)
        stream = await litellm.acompletion(**chat, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return whole.choices[0].message.content, "".join(parts)

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


def test_text_completion(server: Server) -> None:
    options = {
        "model": f"text-completion-openai/{MODEL}",
        "api_base": server.url,
        "api_key": "none",
        "max_tokens": 4,
        "seed": 1,
    }
    made = litellm.text_completion(**options, prompt="Hello", logprobs=2)
    assert made.choices[0].text
    several = litellm.text_completion(**options, prompt=["Hello", "a"])
    assert len(several.choices) == 2
    streamed = litellm.text_completion(**options, prompt="Hello", stream=True)
    assert "".join(c.choices[0].text or "" for c in streamed if c.choices) == made.choices[0].text


def test_hosted_vllm_is_us_too(server: Server) -> None:
    made = litellm.completion(
        model=f"hosted_vllm/{MODEL}", api_base=server.url, messages=HELLO, max_tokens=2
    )
    assert made.choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    ("error", "extra"),
    [
        ("ContextWindowExceededError", {"messages": [{"role": "user", "content": "x" * 9000}]}),
        ("NotFoundError", {"model": "openai/gpt-4"}),
        ("BadRequestError", {"temperature": 5}),
        ("BadRequestError", {"response_format": {"type": "json_object"}}),
    ],
)
def test_errors_are_mapped(chat: dict[str, Any], error: str, extra: dict[str, Any]) -> None:
    with pytest.raises(getattr(litellm, error)):
        litellm.completion(**{**chat, **extra})
    with pytest.raises(getattr(litellm, error)):
        list(litellm.completion(**{**chat, **extra}, stream=True))


def test_a_wrong_key_and_a_full_server(chat: dict[str, Any], serving: Serving) -> None:
    with serving("--max-slots", 1, "--queue-size", 1, keys="sk-right") as server:
        there = {**chat, "api_base": server.url, "max_retries": 0}
        with pytest.raises(litellm.AuthenticationError):
            litellm.completion(**there)
        there["api_key"] = "sk-right"
        long = {**there, "max_tokens": 1500, "logit_bias": {"300": 100}, "stream": True}
        streams = [litellm.completion(**long) for _ in range(2)]
        with pytest.raises(litellm.RateLimitError):
            litellm.completion(**there)
        for stream in streams:
            stream.completion_stream.close()
