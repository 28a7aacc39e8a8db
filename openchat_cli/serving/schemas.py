"""JSON schemas of the answers, for /openapi.json; the tests hold real answers against them."""

from __future__ import annotations

from typing import Any

from openchat_cli.serving.kinds import Schema

_STRING: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_LOGPROB: Schema = {"type": "number", "maximum": 0}


def ref(name: str) -> Schema:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(*, optional: tuple[str, ...] = (), **properties: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _head(kind: str, *choices: Schema) -> Schema:
    """What every generated body begins with."""
    head = {"id": _STRING, "object": {"const": kind}, "created": _COUNT, "model": _STRING}
    return head | {"choices": _array(*choices)}


_FINISH = {"enum": ["stop", "length"]}
_TOKEN: dict[str, Any] = {"token": _STRING, "logprob": _LOGPROB, "bytes": _or_null(_array(_COUNT))}
_CHAT_LOGPROBS = _object(
    content=_array(_object(**_TOKEN, top_logprobs=_array(_object(**_TOKEN)))),
    refusal={"type": "null"},
)
_PLAIN_LOGPROBS = _object(
    tokens=_array(_STRING),
    token_logprobs=_array(_or_null(_LOGPROB)),
    top_logprobs=_array(_or_null({"type": "object", "additionalProperties": _LOGPROB})),
    text_offset=_array(_COUNT),
)
_MESSAGE = _object(role={"const": "assistant"}, content=_STRING, refusal={"type": "null"})
_CHAT_CHOICE = _object(
    index=_COUNT, message=_MESSAGE, logprobs=_or_null(_CHAT_LOGPROBS), finish_reason=_FINISH
)
_CHUNK_CHOICE = _object(
    index=_COUNT,
    delta=_object(role={"const": "assistant"}, content=_STRING, optional=("role", "content")),
    logprobs=_or_null(_CHAT_LOGPROBS),
    finish_reason=_or_null(_FINISH),
)
_PLAIN_CHOICE = _object(
    index=_COUNT,
    text=_STRING,
    logprobs=_or_null(_PLAIN_LOGPROBS),
    finish_reason=_or_null(_FINISH),
)

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        error=_object(
            message=_STRING, type=_STRING, param=_or_null(_STRING), code=_or_null(_STRING)
        )
    ),
    "Usage": _object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT),
    "ChatCompletion": _object(**_head("chat.completion", _CHAT_CHOICE), usage=ref("Usage")),
    "ChatCompletionChunk": _object(
        **_head("chat.completion.chunk", _CHUNK_CHOICE),
        usage=_or_null(ref("Usage")),
        optional=("usage",),
    ),
    "Completion": _object(
        **_head("text_completion", _PLAIN_CHOICE),
        usage=_or_null(ref("Usage")),
        optional=("usage",),
    ),
    "Model": _object(id=_STRING, object={"const": "model"}, created=_COUNT, owned_by=_STRING),
    "ModelList": _object(object={"const": "list"}, data=_array(ref("Model"))),
    "Tokenized": _object(
        count=_COUNT,
        max_model_len=_COUNT,
        tokens=_array(_COUNT),
        token_strs=_or_null(_array(_STRING)),
    ),
    "Detokenized": _object(prompt=_STRING),
    "TokenizerInfo": _object(
        tokenizer_class=_STRING,
        bos_token=_or_null(_STRING),
        eos_token=_STRING,
        chat_template=_or_null(_STRING),
    ),
    "Health": _object(status=_STRING),
    "Version": _object(version=_STRING),
}
