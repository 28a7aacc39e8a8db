"""Text to token ids and back, as clients of vLLM know it: /tokenize, /detokenize, /tokenizer_info.

A text is a text here too: `<s>` in a prompt gives the ids of its characters, not BOS.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from openchat_cli.core import templates
from openchat_cli.core.tokens import ChatTokenizer
from openchat_cli.serving.errors import ApiError, invalid
from openchat_cli.serving.kinds import Boolean, Field, Only, Table, Text
from openchat_cli.serving.messages import Messages, for_type
from openchat_cli.serving.tables import REFUSED, Served, Tokens, model_field
from openchat_cli.serving.upstream import NoTokenizer

if TYPE_CHECKING:
    from openchat_cli.serving.backend import Backend


@functools.cache
def tokenize_table(served: Served) -> Table:
    """The fields of /tokenize: a prompt or messages."""
    return (
        model_field(served, required=False),
        Field("prompt", Text(), "A text."),
        Field("messages", Messages(served.roles), "Or a conversation, as the model reads it."),
        Field("add_special_tokens", Boolean(), "Put BOS before a prompt; true if absent."),
        Field("add_generation_prompt", Boolean(), "Begin the answer; true if absent."),
        Field("return_token_strs", Boolean(), "Also give each token's text."),
        Field("continue_final_message", Only((False,)), REFUSED),
        Field("chat_template", Only(), REFUSED),
        Field("tools", Only(([],)), REFUSED),
    )


@functools.cache
def detokenize_table(served: Served) -> Table:
    """The fields of /detokenize."""
    return (
        model_field(served, required=False),
        Field("tokens", Tokens(served.vocab_size), "Token ids.", required=True),
        Field("skip_special_tokens", Boolean(), "Leave control tokens out; true if absent."),
    )


def check(engine: Backend) -> None:
    """ApiError 404 where there is no tokeniser here: a server behind this one has it."""
    if isinstance(engine.tokenizer, NoTokenizer):
        raise _no_tokenizer()


def _no_tokenizer() -> ApiError:
    return ApiError(404, "This server does not know its tokenizer.", code="no_tokenizer")


def tokenize(engine: Backend, found: dict[str, Any]) -> dict[str, Any]:
    """The answer of /tokenize to the fields of a request. Raises ApiError and InputError."""
    if ("prompt" in found) == ("messages" in found):
        raise invalid("Send either 'prompt' or 'messages'.", "prompt", "invalid_value")
    if "prompt" in found:
        tokens = engine.tokenizer.encode(found["prompt"])
        start = engine.tokenizer.bos_id
        if start is not None and found.get("add_special_tokens", True):
            tokens = [start, *tokens]
    else:
        tokens = _conversation(engine, found)
    strings = None
    if found.get("return_token_strs"):
        named = control_names(engine)
        texts = (engine.tokenizer.token_bytes(token) for token in tokens)
        strings = [
            named.get(token) or data.decode("utf-8", "replace")
            for token, data in zip(tokens, texts, strict=True)
        ]
    return {
        "count": len(tokens),
        "max_model_len": engine.context,
        "tokens": tokens,
        "token_strs": strings,
    }


def _conversation(engine: Backend, found: dict[str, Any]) -> list[int]:
    messages = for_type(found["messages"], engine.kind.roles)
    if found.get("add_generation_prompt", True):
        return templates.prompt(engine.kind, engine.tokenizer, messages)
    return templates.render(engine.kind, engine.tokenizer, messages).ids


def detokenize(engine: Backend, found: dict[str, Any]) -> dict[str, Any]:
    """The answer of /detokenize to the fields of a request."""
    tokens: list[int] = found["tokens"]
    parts = [engine.tokenizer.token_bytes(token) for token in tokens]
    first = next((index for index, data in enumerate(parts) if data), None)
    if engine.drops_space and first is not None:
        parts[first] = parts[first].removeprefix(b" ")
    if found.get("skip_special_tokens") is False:
        named = control_names(engine)
        parts = [
            named[token].encode() if token in named else data
            for token, data in zip(tokens, parts, strict=True)
        ]
    return {"prompt": b"".join(parts).decode("utf-8", "replace")}


def control_names(engine: Backend) -> dict[int, str]:
    """The control tokens by id."""
    kind, tokenizer = engine.kind, engine.tokenizer
    found = {tokenizer.eot_id: kind.eot}
    if tokenizer.bos_id is not None and kind.bos is not None:
        found[tokenizer.bos_id] = kind.bos
    if isinstance(tokenizer, ChatTokenizer):
        found |= {token: name for name, token in tokenizer.control.items()}
    return found


def tokenizer_info(engine: Backend) -> dict[str, Any]:
    """The answer of /tokenizer_info: what a tokenizer_config.json says, and the template."""
    from openchat_cli.model.chat import chat_template, tokenizer_config

    kind, tokenizer = engine.kind, engine.tokenizer
    if not isinstance(tokenizer, ChatTokenizer):  # of no model folder
        raise _no_tokenizer()
    added = {
        str(token): {"content": name, "special": True}
        for token, name in sorted(control_names(engine).items())
    }
    return {
        **tokenizer_config(kind, tokenizer, {}, engine.context),
        "add_bos_token": kind.bos is not None,
        "add_eos_token": False,
        "vocab_size": tokenizer.vocab_size,
        "added_tokens_decoder": added,
        "chat_template": chat_template(kind, tokenizer),
    }
