"""/tokenize, /detokenize and /tokenizer_info, as clients of vLLM use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from openchat_cli.core import registry
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.model.chat import tokenizer_json

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello <s> world"},
    {"role": "assistant", "content": "Hi<|end_of_turn|>"},
    {"role": "user", "content": " again"},
]


def tokenize(http: httpx2.Client, **body: Any) -> Any:
    got = http.post("/tokenize", json=body)
    assert got.status_code == 200, got.text
    return got.json()


def test_a_prompt(http: httpx2.Client, folder: Path) -> None:
    tokenizer = load_tokenizer(folder, registry.get("openchat"))
    ids = tokenizer.encode("Hello world")
    assert tokenize(http, prompt="Hello world") == {
        "count": len(ids) + 1,
        "max_model_len": 2048,
        "tokens": [1, *ids],
        "token_strs": None,
    }
    bare = tokenize(http, prompt="Hello world", add_special_tokens=False, model="openchat")
    assert bare["tokens"] == ids
    shown = tokenize(http, prompt="Hello world", return_token_strs=True)
    assert shown["token_strs"] == ["<s>", " Hello", " world"]
    assert tokenize(http, prompt="", add_special_tokens=False)["tokens"] == []


def test_messages_are_what_the_model_sees(http: httpx2.Client) -> None:
    found = tokenize(http, messages=MESSAGES, return_token_strs=True)
    chat = {"model": "openchat", "messages": MESSAGES, "max_tokens": 1}
    usage = http.post("/v1/chat/completions", json=chat).json()["usage"]
    assert found["count"] == len(found["tokens"]) == usage["prompt_tokens"]
    assert found["token_strs"].count("<|end_of_turn|>") == 3
    whole = tokenize(http, messages=MESSAGES, add_generation_prompt=False)["tokens"]
    assert found["tokens"][: len(whole)] == whole
    assert whole[-1] == found["tokens"][-1] or len(whole) < found["count"]


def test_its_template_gives_its_ids(http: httpx2.Client, folder: Path) -> None:
    info = http.get("/tokenizer_info").json()
    kind = registry.get("openchat")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(info["chat_template"]).render(
        messages=MESSAGES, add_generation_prompt=True
    )
    spec = tokenizer_json(kind, load_tokenizer(folder, kind))
    plain = Tokenizer.from_str(json.dumps(spec))
    ids = plain.encode(text, add_special_tokens=False).ids
    assert ids == tokenize(http, messages=MESSAGES)["tokens"]


def test_tokenizer_info(http: httpx2.Client) -> None:
    info = http.get("/tokenizer_info").json()
    assert info["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (info["bos_token"], info["eos_token"]) == ("<s>", "<|end_of_turn|>")
    assert (info["unk_token"], info["model_max_length"]) == ("<unk>", 2048)
    named = {entry["content"]: int(token) for token, entry in info["added_tokens_decoder"].items()}
    assert named["<s>"] == 1
    assert named["<|end_of_turn|>"] == info["vocab_size"] - 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=40))
def test_there_and_back(http: httpx2.Client, text: str) -> None:
    for special in (True, False):
        tokens = tokenize(http, prompt=text, add_special_tokens=special)["tokens"]
        got = http.post("/detokenize", json={"tokens": tokens})
        assert got.json() == {"prompt": text.replace("\u2581", " ")}


def test_control_tokens_are_left_out_or_named(http: httpx2.Client) -> None:
    tokens = tokenize(http, prompt="Hello")["tokens"]
    named = {"tokens": tokens, "skip_special_tokens": False}
    assert http.post("/detokenize", json={"tokens": tokens}).json()["prompt"] == "Hello"
    assert http.post("/detokenize", json=named).json()["prompt"] == "<s>Hello"
    assert http.post("/detokenize", json={"tokens": []}).json()["prompt"] == ""
    as_floats = {"tokens": [float(token) for token in tokens]}
    assert http.post("/detokenize", json=as_floats).json()["prompt"] == "Hello"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": "no"}, "add_special_tokens"),
        ("/tokenize", {"messages": MESSAGES, "chat_template": "x"}, "chat_template"),
        ("/tokenize", {"messages": MESSAGES, "tools": [{}]}, "tools"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1, True]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [10**30]}, "tokens"),
        ("/detokenize", {"tokens": [1], "model": 5}, "model"),
    ],
)
def test_what_is_refused(http: httpx2.Client, path: str, body: Any, param: str) -> None:
    got = http.post(path, json=body)
    assert (got.status_code, got.json()["error"]["param"]) == (400, param)


def test_another_model(http: httpx2.Client) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})):
        got = http.post(path, json={**body, "model": "gpt-4"})
        assert (got.status_code, got.json()["error"]["code"]) == (404, "model_not_found")
