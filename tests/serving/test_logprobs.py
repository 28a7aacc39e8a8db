"""Log-probabilities on the wire, against the model's own forward passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from transformers import LlamaForCausalLM

from openchat_cli.core import registry
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.serving.server import Ready

CHAT = "/v1/chat/completions"
PLAIN = "/v1/completions"
HELLO = {"model": "openchat", "messages": [{"role": "user", "content": "Hello"}]}
IDS = [1, 260, 261, 300, 290, 280, 275]


@pytest.fixture(scope="module")
def truth(folder: Path) -> Any:
    """Log-probabilities of what follows each of some ids, by one plain forward pass."""
    model = LlamaForCausalLM.from_pretrained(folder).eval()

    def logprobs(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)

    return logprobs


def stream(http: httpx2.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    got = http.post(path, json={**body, "stream": True})
    assert got.status_code == 200, got.text
    lines = [line.removeprefix("data: ") for line in got.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line)["choices"][0] for line in lines[:-1]]


def test_an_echoed_prompt_has_the_models_own(http: httpx2.Client, truth: Any) -> None:
    body = {"model": "openchat", "prompt": IDS, "echo": True, "logprobs": 3, "max_tokens": 1}
    choice = http.post(PLAIN, json={**body, "temperature": 0}).json()["choices"][0]
    found = choice["logprobs"]
    assert {len(column) for column in found.values()} == {len(IDS) + 1}
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    expected = truth(IDS)
    best = expected[-1, :].argmax()
    for place, (token, value) in enumerate(
        zip([*IDS[1:], int(best)], found["token_logprobs"][1:], strict=True)
    ):
        assert value == pytest.approx(float(expected[place, token]), abs=1e-4)
    # As lm-evaluation-harness sees whether the answer is the greedy one.
    assert found["token_logprobs"][-1] == max(found["top_logprobs"][-1].values())
    assert 3 <= len(found["top_logprobs"][1]) <= 4


def test_offsets_say_where_tokens_begin(http: httpx2.Client) -> None:
    body = {"model": "openchat", "prompt": "Hello wörld", "echo": True, "logprobs": 0}
    choice = http.post(PLAIN, json={**body, "max_tokens": 0}).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Hello wörld", "length")
    found = choice["logprobs"]
    assert found["tokens"][0] == "<s>"
    for name, offset in zip(found["tokens"][1:], found["text_offset"][1:], strict=True):
        if not name.startswith("bytes:"):
            assert choice["text"].startswith(name, offset)


@pytest.mark.parametrize("extra", [{}, {"logprobs": 2}])
def test_a_streamed_echo_is_the_whole_one(http: httpx2.Client, extra: dict[str, Any]) -> None:
    body = {"model": "openchat", "prompt": "Hello the world", "echo": True, "seed": 3, **extra}
    whole = http.post(PLAIN, json=body).json()["choices"][0]
    parts = stream(http, PLAIN, body)
    assert "".join(part["text"] for part in parts) == whole["text"]
    assert whole["text"].startswith("Hello the world")
    if extra:
        pieces = [part["logprobs"] for part in parts if part["logprobs"]]
        for column, values in whole["logprobs"].items():
            joined = [value for piece in pieces for value in piece[column]]
            assert len(joined) == len(values)
            if column in ("tokens", "text_offset"):
                assert joined == values
    else:
        assert whole["logprobs"] is None


@pytest.mark.parametrize("stop", [None, ["a", "e", "-", "#"]])
def test_a_chats_tokens_make_up_its_text(http: httpx2.Client, stop: Any) -> None:
    body = {**HELLO, "logprobs": True, "top_logprobs": 4, "max_tokens": 60, "seed": 7}
    body |= {"stop": stop, "temperature": 1.2}
    whole = http.post(CHAT, json=body).json()["choices"][0]
    content = whole["logprobs"]["content"]
    data = b"".join(bytes(entry["bytes"]) for entry in content)
    assert data.decode("utf-8", "replace") == whole["message"]["content"]
    for entry in content:
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert values == sorted(values, reverse=True)
        assert len(values) == 4
        assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
    parts = [part["logprobs"] for part in stream(http, CHAT, body)]
    streamed = [entry for part in parts if part for entry in part["content"]]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in content]


def test_the_openai_client_reads_them(server: Ready) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        made = client.chat.completions.create(**HELLO, logprobs=True, top_logprobs=2, n=2, seed=1)  # type: ignore[call-overload]  # a dict of arguments
        assert len(made.choices) == 2
        for choice in made.choices:
            assert choice.logprobs is not None
            assert choice.logprobs.content[0].logprob <= 0
        plain = client.completions.create(model="openchat", prompt=["a", "b"], logprobs=1, n=2)
    assert [choice.index for choice in plain.choices] == [0, 1, 2, 3]
    assert all(choice.logprobs is not None for choice in plain.choices)


def test_without_being_asked_nothing_is_said(http: httpx2.Client) -> None:
    choice = http.post(CHAT, json={**HELLO, "logprobs": False}).json()["choices"][0]
    assert choice["logprobs"] is None


def test_what_follows_a_text_keeps_its_space(http: httpx2.Client, folder: Path) -> None:
    tokenizer = load_tokenizer(folder, registry.get("openchat"))
    world = next(t for t in tokenizer.encode("a world") if tokenizer.token_bytes(t) == b" world")
    bias = {"logit_bias": {str(world): 100}, "temperature": 0, "max_tokens": 1}
    plain = http.post(PLAIN, json={"model": "openchat", "prompt": "Hello", **bias}).json()
    chat = http.post(CHAT, json={**HELLO, **bias}).json()
    assert plain["choices"][0]["text"] == " world"
    assert chat["choices"][0]["message"]["content"] == "world"


def test_every_control_token_has_its_name(http: httpx2.Client) -> None:
    body = {"model": "openchat", "prompt": [1, 2, 40, 2], "echo": True, "logprobs": 20}
    got = http.post("/v1/completions", json={**body, "max_tokens": 0}).json()["choices"][0]
    assert got["logprobs"]["tokens"] == ["<s>", "</s>", got["text"], "</s>"]
    assert all("" not in best for best in got["logprobs"]["top_logprobs"][1:])
