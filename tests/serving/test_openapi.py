"""/openapi.json says what is checked, what is answered, and which paths there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.app import create_app
from openchat_cli.serving.service import Service
from openchat_cli.serving.settings import ServeSettings
from tests.serving.test_protocol import BAD, HELLO
from tests.serving.test_tokenise import MESSAGES

jsonschema = pytest.importorskip("jsonschema")

FOR_PEOPLE = {"/"}
# What a schema can't say: which fields go together, and what the model has.
BEYOND_SCHEMAS = {
    *("logit_bias", "max_tokens"),
    None,
}


@pytest.fixture
def description(http: httpx2.Client) -> Any:
    return http.get("/openapi.json").json()


def validator(description: Any, schema: Any) -> Any:
    whole = {**schema, "components": description["components"]}
    return jsonschema.Draft202012Validator(whole)


def body_schema(description: Any, path: str) -> Any:
    post = description["paths"][path]["post"]
    return validator(description, post["requestBody"]["content"]["application/json"]["schema"])


def answer_schema(description: Any, method: str, path: str, status: int = 200) -> Any:
    content = description["paths"][path][method]["responses"][str(status)]["content"]
    return validator(description, content["application/json"]["schema"])


def test_it_has_every_path(description: Any) -> None:
    assert description["openapi"] == "3.1.0"
    app = create_app(Service(ServeSettings(EngineSettings(Path("tiny")))))
    routes = {route.path.replace(":path}", "}"): route for route in app.routes}
    assert set(description["paths"]) == set(routes) - FOR_PEOPLE
    for path, methods in description["paths"].items():
        assert {name.upper() for name in methods} == routes[path].methods - {"HEAD"}


def test_its_schemas_are_schemas(description: Any) -> None:
    for path, methods in description["paths"].items():
        for method in methods.values():
            if "requestBody" in method:
                body_schema(description, path).check_schema(body_schema(description, path).schema)


def test_good_requests_fit(http: httpx2.Client, description: Any) -> None:
    chat = body_schema(description, "/v1/chat/completions")
    for extra in (
        {},
        {"n": 2, "stream": True, "stream_options": {"include_usage": True}, "stop": ["a"]},
        {"messages": MESSAGES, "logit_bias": {"5": 1}, "unheard_of": 1, "seed": None},
        {"response_format": {"type": "text"}, "tools": [], "service_tier": "auto"},
    ):
        assert chat.is_valid({**HELLO, **extra})
    assert chat.is_valid({"conversation": [{"from": "human", "value": "x"}]})
    plain = body_schema(description, "/v1/completions")
    for prompt in ("a", ["a", "b"], [5, 6], [[5], [6]]):
        assert plain.is_valid({"model": "openchat", "prompt": prompt, "logprobs": False})


@pytest.mark.parametrize(("extra", "param", "code"), BAD)
def test_refused_requests_do_not_fit(
    description: Any, extra: dict[str, Any], param: str | None, code: str
) -> None:
    fits = body_schema(description, "/v1/chat/completions").is_valid({**HELLO, **extra})
    assert not fits or param in BEYOND_SCHEMAS


def test_answers_are_as_described(http: httpx2.Client, description: Any) -> None:
    posts: dict[str, list[dict[str, Any]]] = {
        "/v1/chat/completions": [
            {**HELLO, "max_tokens": 3, "n": 2},
            {**HELLO, "max_tokens": 3, "logprobs": True, "top_logprobs": 2},
            {"model": "openchat", "messages": []},
            {**HELLO, "model": "gpt-4"},
        ],
        "/v1/completions": [
            {"model": "openchat", "prompt": ["a", [5]], "max_tokens": 2},
            {"model": "openchat", "prompt": "a", "echo": True, "logprobs": 2, "max_tokens": 0},
        ],
        "/tokenize": [{"prompt": "a"}, {"messages": MESSAGES, "return_token_strs": True}, {}],
        "/detokenize": [{"tokens": [5]}, {"tokens": 5}],
    }
    for path, bodies in posts.items():
        for body in bodies:
            got = http.post(path, json=body)
            answer_schema(description, "post", path, got.status_code).validate(got.json())
    for path in ("/health", "/version", "/v1/models", "/tokenizer_info", "/openapi.json"):
        answer_schema(description, "get", path).validate(http.get(path).json())
    card = answer_schema(description, "get", "/v1/models/{model}")
    card.validate(http.get("/v1/models/openchat").json())


def test_streams_are_as_described(http: httpx2.Client, description: Any) -> None:
    usage = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 4}
    for path, body in {
        "/v1/chat/completions": {**HELLO, "logprobs": True, "top_logprobs": 1},
        "/v1/completions": {"model": "openchat", "prompt": "a", "logprobs": 1, "echo": True},
    }.items():
        got = http.post(path, json={**body, **usage})
        content = description["paths"][path]["post"]["responses"]["200"]["content"]
        event_schema = content["text/event-stream"]["schema"]
        json_data = event_schema["properties"]["data"]["anyOf"][1]
        chunk = validator(description, json_data["contentSchema"])
        *events, done = got.text.removesuffix("\n\n").split("\n\n")
        assert done == "data: [DONE]"
        for event in events:
            chunk.validate(json.loads(event.removeprefix("data: ")))
