"""The real openai client against the server, over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest

from openchat_cli.serving.server import Ready

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(server: Ready) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_a_chat_completion(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        model="openchat", messages=HELLO, max_completion_tokens=5, seed=1
    )
    assert made.object == "chat.completion"
    assert made.model == "openchat"
    assert made.choices[0].message.role == "assistant"
    assert made.choices[0].finish_reason in ("stop", "length")
    assert made.usage is not None
    assert 1 <= made.usage.completion_tokens <= 5
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


def test_a_stream_says_the_same_as_the_whole(client: openai.OpenAI) -> None:
    options = {"model": "openchat", "messages": HELLO, "max_tokens": 40, "seed": 3}
    whole = client.chat.completions.create(**options)
    chunks = list(
        client.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_choices(client: openai.OpenAI) -> None:
    options = {"model": "openchat", "messages": HELLO, "max_tokens": 8, "seed": 5, "n": 3}
    whole = client.chat.completions.create(**options, temperature=1.5)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in whole.choices}) > 1
    texts = ["", "", ""]
    finished = []
    for chunk in client.chat.completions.create(**options, temperature=1.5, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        finished += [choice.index] if choice.finish_reason else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert sorted(finished) == [0, 1, 2]


def test_many_async_requests_at_once(server: Ready) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        messages = [{"role": "user", "content": f"Hello {number}"}]
        stream = await client.chat.completions.create(
            model="openchat", messages=messages, temperature=0, max_tokens=12, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            together = await asyncio.gather(*(one(client, number) for number in range(12)))
            alone = [await one(client, number) for number in range(12)]
        return together, alone

    together, alone = asyncio.run(all_of_them())
    assert together == alone


def test_text_completions(client: openai.OpenAI) -> None:
    made = client.completions.create(
        model="openchat", prompt=["Hello", [1, 300, 301]], n=2, max_tokens=4, temperature=0
    )
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    assert made.choices[0].text == made.choices[1].text
    streamed = client.completions.create(
        model="openchat", prompt="Hello", max_tokens=4, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed) == made.choices[0].text


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["openchat"]
    assert client.models.retrieve("openchat").id == "openchat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_errors_have_their_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        content = "x" * 5000
        client.chat.completions.create(
            model="openchat", messages=[{"role": "user", "content": content}]
        )
    assert long.value.code == "context_length_exceeded"
    assert "Please reduce the length of the messages" in str(long.value)
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="openchat", messages=HELLO, temperature=3)
    assert wrong.value.param == "temperature"
