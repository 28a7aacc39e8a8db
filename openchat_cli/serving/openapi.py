"""/openapi.json: what this server answers, made from the tables that check its requests."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import openchat_cli
from openchat_cli.serving import tables, tokenise
from openchat_cli.serving.kinds import Schema, Table, object_schema
from openchat_cli.serving.schemas import SCHEMAS, ref
from openchat_cli.serving.tables import Served

_JSON = "application/json"
_EVENTS = "text/event-stream"
# What can go wrong, by status.
_ERRORS = {
    400: "The request can't be answered as it is.",
    401: "No key, or not one of the keys.",
    403: "A web page of another origin asks, and there are no keys.",
    404: "No such model.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too many requests wait; try again after `Retry-After`.",
    500: "The answer failed.",
    503: "The model is loading, the server is shutting down, or no slot was free in time.",
    504: "The answer took longer than the server allows.",
}


def describe(served: Served, paths: Collection[str]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of those of `paths` that are for programs."""
    known = _paths(served)
    spelt = {re.sub(r":path\}", "}", path): path for path in paths}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "openchat serve",
            "version": openchat_cli.__version__,
            "description": "A chat model behind OpenAI's protocol. Fields nobody knows are "
            "ignored; what is known and not supported is answered with 400.",
        },
        "paths": {path: known[path] for path in spelt if path in known},
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _paths(served: Served) -> Mapping[str, Schema]:
    model = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "example": served.models[0],
    }
    return {
        "/health": {"get": _health()},
        "/metrics": {"get": _text("Counters and timings for Prometheus")},
        "/version": {"get": _get("The program's version", ref("Version"))},
        "/openapi.json": {"get": _get("This description", {"type": "object"}, also=(503,))},
        "/v1/models": {"get": _get("The one model", ref("ModelList"), also=(503,))},
        "/v1/models/{model}": {
            "get": {
                **_get("The one model, by name", ref("Model"), also=(404, 503)),
                "parameters": [model],
            }
        },
        "/v1/chat/completions": {
            "post": _post(
                "Answer a conversation",
                _chat_body(served),
                ref("ChatCompletion"),
                ref("ChatCompletionChunk"),
            )
        },
        "/v1/completions": {
            "post": _post(
                "Go on from a text",
                _completion_body(served),
                ref("Completion"),
                ref("Completion"),
            )
        },
        "/tokenize": {"post": _post("Text to token ids", _tokenize_body(served), ref("Tokenized"))},
        "/detokenize": {
            "post": _post(
                "Token ids to text",
                object_schema(tokenise.detokenize_table(served)),
                ref("Detokenized"),
            )
        },
        "/tokenizer_info": {"get": _get("The tokeniser", ref("TokenizerInfo"), also=(503,))},
    }


def _chat_body(served: Served) -> Schema:
    table = tables.chat_table(served)
    either = [_given(table, "model", "messages"), _given(table, "conversation")]
    return {
        **object_schema(table),
        "oneOf": either,
        "allOf": [
            _needs("stream_options", {"type": "object"}, "stream"),
            _needs("top_logprobs", {"type": "integer", "minimum": 1}, "logprobs"),
        ],
    }


def _completion_body(served: Served) -> Schema:
    table = tables.completion_table(served)
    return {
        **object_schema(table),
        "allOf": [_needs("stream_options", {"type": "object"}, "stream")],
    }


def _needs(name: str, asks: Schema, other: str) -> Schema:
    """A field that is only allowed where another one is true."""
    return {
        "if": {"properties": {name: asks}, "required": [name]},
        "then": {"properties": {other: {"const": True}}, "required": [other]},
    }


def _tokenize_body(served: Served) -> Schema:
    table = tokenise.tokenize_table(served)
    return {**object_schema(table), "oneOf": [_given(table, "prompt"), _given(table, "messages")]}


def _given(table: Table, *names: str) -> Schema:
    """These fields are there, and not null."""
    kinds = {field.name: field.kind.schema() for field in table if field.name in names}
    return {"required": list(names), "properties": kinds}


def _get(summary: str, answer: Schema, also: Collection[int] = ()) -> Schema:
    content = {_JSON: {"schema": answer}}
    return {"summary": summary, "responses": _responses(content, {401, 403, *also})}


def _health() -> Schema:
    """Open to all, and with a body of its own where it is not well."""
    content = {_JSON: {"schema": ref("Health")}}
    unwell = {"description": "The model loads, or has stopped.", "content": content}
    responses = {**_responses(content, {403}), "503": unwell}
    return {"summary": "Whether requests are answered", "security": [], "responses": responses}


def _text(summary: str) -> Schema:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {"summary": summary, "responses": _responses(content, {401, 403})}


def _post(summary: str, body: Schema, answer: Schema, chunk: Schema | None = None) -> Schema:
    content: Schema = {_JSON: {"schema": answer}}
    if chunk is not None:
        data = {
            "anyOf": [
                {"const": "[DONE]"},
                {"type": "string", "contentMediaType": _JSON, "contentSchema": chunk},
            ]
        }
        content[_EVENTS] = {
            "schema": {
                "description": "Each event of an answer with `stream`.",
                "type": "object",
                "properties": {"data": data},
                "required": ["data"],
            }
        }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": _responses(content, set(_ERRORS)),
    }


def _responses(content: Schema, errors: Collection[int]) -> Schema:
    found: Schema = {"200": {"description": "The answer.", "content": content}}
    for status in sorted(errors):
        found[str(status)] = {
            "description": _ERRORS[status],
            "content": {_JSON: {"schema": ref("Error")}},
        }
    return found
