"""The protocol on the wire: exact streams, error bodies, refused and ignored fields."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

import openchat_cli
from openchat_cli.serving.server import Ready

CHAT = "/v1/chat/completions"
LETTER_Z = 3 + 256 + 1 + ord("Z") - 33  # its token in the folder made on the spot
HELLO = {"model": "openchat", "messages": [{"role": "user", "content": "Hello"}]}


def events(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    lines = text.removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    datas = [line.removeprefix("data: ") for line in lines]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def test_a_stream_to_the_letter(http: httpx2.Client) -> None:
    usage = {"stream_options": {"include_usage": True}}
    got = http.post(CHAT, json={**HELLO, "stream": True, **usage, "max_tokens": 4, "seed": 2})
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    *chunks, last, done = events(got.text)
    assert done == "[DONE]"
    for chunk in [*chunks, last]:
        assert chunk["object"] == "chat.completion.chunk"
        assert isinstance(chunk["created"], int)
        assert chunk["model"] == "openchat"
        assert chunk["id"].startswith("chatcmpl-")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(chunk["usage"] is None for chunk in chunks)
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[-1] in ("stop", "length")
    assert set(reasons[:-1]) <= {None}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] <= 4


def test_no_usage_chunk_unless_asked(http: httpx2.Client) -> None:
    got = http.post(CHAT, json={**HELLO, "stream": True, "max_tokens": 2})
    *chunks, done = events(got.text)
    assert done == "[DONE]"
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


def test_a_whole_answer_to_the_letter(http: httpx2.Client) -> None:
    got = http.post(CHAT, json={**HELLO, "max_tokens": 3, "seed": 1}).json()
    assert got["object"] == "chat.completion"
    choice = got["choices"][0]
    assert choice["message"].keys() == {"role", "content", "refusal"}
    assert choice["finish_reason"] in ("stop", "length")
    assert got["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


@pytest.mark.parametrize(
    "extra",
    [
        {"unheard_of": {"x": 1}, "user": "me", "metadata": {"a": "b"}, "store": False},
        {"temperature": 0, "top_p": 0, "top_k": -1, "min_p": 0.1},
        {"temperature": 1e-30},
        {"stop": None, "seed": None, "n": None, "stream": None, "stream_options": None},
        {"stop": ["a", "b", "c", "d"], "seed": -5, "logit_bias": {"65": -100, "66": 3.5}},
        {"max_tokens": 3, "max_completion_tokens": 3},
        {"max_tokens": 10**30, "stop": "ZZ", "logit_bias": {str(LETTER_Z): 100}},
        {"top_k": 10**30, "temperature": 1},
        {"top_k": 2**63, "temperature": 1},
        {"presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.1},
        {"stop_token_ids": [5, 6], "logprobs": True, "top_logprobs": 20},
        {"response_format": {"type": "text"}, "tool_choice": "none", "logprobs": False},
        {"tools": [], "functions": [], "parallel_tool_calls": True, "modalities": ["text"]},
        {"service_tier": "auto", "reasoning_effort": "none", "verbosity": "medium"},
        {"safety_identifier": "x", "prompt_cache_key": "y", "temperature": 1, "n": 1.0},
        {"messages": [{"role": "developer", "content": "Be brief."}, *HELLO["messages"]]},
        {"messages": [{"role": "system", "content": "Be brief."}]},
        {"messages": [*HELLO["messages"], {"role": "assistant", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
        {"messages": [{"role": "user", "content": "", "name": "x"}]},
        {"messages": [{"role": "user", "content": "\u0000 <s></s><|end_of_turn|> 😀"}]},
        {"length_penalty": 1.0, "best_of": 1, "min_tokens": 0.0, "documents": []},
        {"model": "tiny"},
        {"model": "OpenChat"},
    ],
)
def test_what_is_answered(http: httpx2.Client, extra: dict[str, Any]) -> None:
    got = http.post(CHAT, json={"max_tokens": 2, **HELLO, **extra})
    assert got.status_code == 200, got.text


BAD = [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": 7}, "model", "invalid_type"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": "Hello"}, "messages", "invalid_type"),
    ({"messages": ["Hello"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
    (
        {"messages": [{"role": "user", "content": "x", "name": 5}]},
        "messages[0].name",
        "invalid_type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0]",
        "unsupported_value",
    ),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"temperature": 2.5}, "temperature", "decimal_above_maximum_value"),
    ({"top_p": -0.1}, "top_p", "decimal_below_minimum_value"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_minimum_value"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_parameter_combination"),
    ({"n": 17}, "n", "integer_above_maximum_value"),
    ({"n": 10**40}, "n", "integer_above_maximum_value"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    ({"stop": [1]}, "stop[0]", "invalid_type"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"99999": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "integer_above_maximum_value"),
    ({"tools": [{}]}, "tools", "unsupported_parameter"),
    ({"functions": [{}]}, "functions", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"response_format": {}}, "response_format", "unsupported_parameter"),
    ({"store": True}, "store", "unsupported_parameter"),
    ({"service_tier": "priority"}, "service_tier", "unsupported_parameter"),
    ({"tool_choice": "required"}, "tool_choice", "unsupported_parameter"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    ({"guided_json": {}}, "guided_json", "unsupported_parameter"),
    ({"allowed_token_ids": [5]}, "allowed_token_ids", "unsupported_parameter"),
    ({"length_penalty": 0.5}, "length_penalty", "unsupported_parameter"),
    ({"best_of": 3}, "best_of", "unsupported_parameter"),
    ({"include_stop_str_in_output": True}, "include_stop_str_in_output", "unsupported_parameter"),
    ({"chat_template_kwargs": {"x": 1}}, "chat_template_kwargs", "unsupported_parameter"),
    ({"user": 5}, "user", "invalid_type"),
    ({"metadata": "x"}, "metadata", "invalid_type"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_maximum_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"stop_token_ids": [1, "2"]}, "stop_token_ids", "invalid_type"),
    ({"repetition_penalty": 0}, "repetition_penalty", "integer_below_minimum_value"),
]


@pytest.mark.parametrize(("extra", "param", "code"), BAD)
def test_what_is_refused(
    http: httpx2.Client, extra: dict[str, Any], param: str | None, code: str | None
) -> None:
    got = http.post(CHAT, json={**HELLO, **extra})
    assert got.status_code == 400
    error = got.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize(
    ("extra", "param", "code"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"add_special_tokens": False}, "add_special_tokens", "unsupported_parameter"),
        ({"allowed_token_ids": [5]}, "allowed_token_ids", "unsupported_parameter"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "invalid_value"),
        ({"suffix": "x"}, "suffix", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
    ],
)
def test_what_completions_refuse(
    http: httpx2.Client, extra: dict[str, Any], param: str, code: str
) -> None:
    got = http.post("/v1/completions", json={"model": "openchat", "prompt": "Hello", **extra})
    assert got.status_code == 400
    error = got.json()["error"]
    assert (error["param"], error["code"]) == (param, code)


def test_choices_differ_also_where_their_seeds_pass_zero(http: httpx2.Client) -> None:
    asked = {**HELLO, "n": 3, "seed": -1, "temperature": 1.5, "top_p": 1, "max_tokens": 12}
    first, again = (http.post(CHAT, json=asked).json()["choices"] for _ in range(2))
    texts = [choice["message"]["content"] for choice in first]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in again]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"model": "openchat", "temperature": NaN}',
        b'{"model": "openchat", "temperature": Infinity}',
        b'{"model": "openchat", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
    ],
)
def test_bodies_that_are_no_json_object(http: httpx2.Client, body: bytes) -> None:
    got = http.post(CHAT, content=body, headers=JSON)
    assert got.status_code == 400
    assert got.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_other_content_types(http: httpx2.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    got = http.post(CHAT, content=json.dumps(HELLO).encode(), headers=headers)
    assert got.status_code == 415
    assert got.json()["error"]["code"] == "unsupported_content_type"


@pytest.mark.parametrize("size", [100_001, 5_000_000])
def test_a_body_over_the_limit(http: httpx2.Client, size: int) -> None:
    got = http.post(CHAT, content=b" " * size, headers=JSON)
    assert got.status_code == 413
    assert got.json()["error"]["code"] == "request_too_large"


def test_unknown_paths_and_methods(http: httpx2.Client) -> None:
    for path in ("/nowhere", "/v1", "/v1/chat", "/v1/models/", "/v1/responses"):
        assert http.get(path).status_code == 404
    for path in ("/nowhere", "/v1/responses", "/v1/chat/completions/"):
        got = http.post(path, json={})
        assert (got.status_code, got.json()["error"]["code"]) == (404, "unknown_url")
    for path, message in {
        "/v1/responses": "Responses API",
        "/v1/embeddings": "no embeddings",
        "/v1/audio/speech": "reads and writes text",
        "/chat/completions": "Did you mean /v1/chat/completions?",
        "/v1/v1/chat/completions": "Did you mean /v1/chat/completions?",
        "/v1/chat/completions/": "Did you mean /v1/chat/completions?",
        "/v1/tokenize": "Did you mean /tokenize?",
    }.items():
        assert message in http.post(path, json={}).json()["error"]["message"]
    got = http.get(CHAT)
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert got.json()["error"]["code"] == "method_not_allowed"


def test_head_and_options(http: httpx2.Client) -> None:
    for path in ("/health", "/v1/models", "/version"):
        got = http.head(path)
        assert (got.status_code, got.content) == (200, b"")
        asked = http.options(path)
        assert asked.status_code == 204
        assert set(asked.headers["allow"].split(", ")) == {"GET", "HEAD"}
        # No page of another origin is let in.
        assert not [name for name in asked.headers if name.startswith("access-control")]
    assert http.head(CHAT).status_code == 405
    assert http.options(CHAT).headers["allow"] == "POST"
    assert http.options("/nowhere").status_code == 404


def test_version(http: httpx2.Client) -> None:
    assert http.get("/version").json() == {"version": openchat_cli.__version__}


@pytest.mark.parametrize(
    "extra",
    [
        {"prompt": None},
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [1, "a"]},
        {"prompt": [999_999]},
        {"prompt": {"a": 1}},
        {"prompt": ["a"] * 129},
        {"prompt": "a", "echo": "yes"},
        {"prompt": "a", "logprobs": 21},
        {"prompt": "a", "logprobs": True},
        {"prompt": "a", "max_tokens": -1},
        {"prompt": [-1]},
        {"prompt": [10**40]},
        {"prompt": [True]},
        {"prompt": "a", "suffix": "b"},
        {"prompt": "a", "best_of": 2},
    ],
)
def test_text_completions_that_are_refused(http: httpx2.Client, extra: dict[str, Any]) -> None:
    got = http.post("/v1/completions", json={"model": "openchat", **extra})
    assert got.status_code == 400, got.text


def test_more_answers_than_ever_find_a_place(http: httpx2.Client) -> None:
    # 8 slots and 32 in the queue; a 429 would make clients try again for ever.
    body = {"model": "openchat", "prompt": ["a"] * 41, "max_tokens": 1}
    got = http.post("/v1/completions", json=body)
    assert (got.status_code, got.json()["error"]["param"]) == (400, "prompt")


def test_silence_gets_the_servers_defaults(http: httpx2.Client) -> None:
    # "Z" all the time, so that nothing but the limit ends it: 16 by the fixture's settings.
    got = http.post(CHAT, json={**HELLO, "logit_bias": {str(LETTER_Z): 100}}).json()
    assert got["choices"][0]["message"]["content"] == "Z" * 16
    assert got["choices"][0]["finish_reason"] == "length"


def test_health(http: httpx2.Client) -> None:
    got = http.get("/health")
    assert got.status_code == 200
    assert got.json() == {"status": "ok", "slots": 8, "answering": 0, "waiting": 0}


def test_every_answer_has_a_request_id(server: Ready, http: httpx2.Client) -> None:
    ids = {http.get(path).headers["x-request-id"] for path in ("/health", "/nowhere", "/v1/models")}
    assert len(ids) == 3
