"""The fields of every request, each with what it may hold and what it does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from openchat_cli.engine.settings import MAX_LOGPROBS
from openchat_cli.serving import fields
from openchat_cli.serving.fields import Json
from openchat_cli.serving.kinds import (
    Array,
    Boolean,
    Field,
    Integer,
    LogitBias,
    Number,
    Object,
    OneOrMore,
    Only,
    Schema,
    Table,
    Text,
)
from openchat_cli.serving.messages import Conversation, Messages

_MAX_STOPS = 4
_MAX_PROMPTS = 128  # in one request to /v1/completions

Prompt = str | list[int]


@dataclass(frozen=True)
class Served:
    """What of the model and the settings decides what a field may hold."""

    models: tuple[str, ...]
    roles: tuple[str, ...]
    vocab_size: int
    max_choices: int


# --- kinds of their own ---


@dataclass(frozen=True)
class Prompts:
    """Text, token ids, or an array of either."""

    vocab_size: int

    def read(self, value: Json, name: str) -> list[Prompt]:
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list):
            raise fields.wrong_type(name, "a string or an array", value)
        if not value:
            raise fields.empty_array(name)
        if all(map(_is_token, value)):
            return [self._ids.read(value, name)]
        if len(value) > _MAX_PROMPTS:
            raise fields.invalid_value(name, f"at most {_MAX_PROMPTS} prompts in one request")
        return [self._one(item, f"{name}[{index}]") for index, item in enumerate(value)]

    def _one(self, item: Json, name: str) -> Prompt:
        if isinstance(item, str):
            return item
        if isinstance(item, list):
            return self._ids.read(item, name)
        raise fields.wrong_type(name, "a string or an array of token ids", item)

    @property
    def _ids(self) -> Tokens:
        return Tokens(self.vocab_size, least=1)

    def schema(self) -> Schema:
        ids = self._ids.schema()
        one = {"anyOf": [{"type": "string"}, ids]}
        several = {"type": "array", "items": one, "minItems": 1, "maxItems": _MAX_PROMPTS}
        return {"anyOf": [{"type": "string"}, ids, several]}


@dataclass(frozen=True)
class Tokens:
    """Token ids of a model that has so many."""

    vocab_size: int
    least: int = 0

    def read(self, value: Json, name: str) -> list[int]:
        if not isinstance(value, list) or not all(map(_is_token, value)):
            raise fields.wrong_type(name, "an array of token ids", value)
        if len(value) < self.least:
            raise fields.empty_array(name)
        ids = [int(token) for token in value]
        for token in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token < self.vocab_size:
                shown = token if abs(token) < 10**12 else "so large a token id"
                reason = f"{shown} is not one of the model's {self.vocab_size} token ids"
                raise fields.invalid_value(name, reason)
        return ids

    def schema(self) -> Schema:
        item = Integer(0, self.vocab_size - 1).schema()
        found: Schema = {"type": "array", "items": item}
        return {**found, "minItems": self.least} if self.least else found


@dataclass(frozen=True)
class ModelName:
    """A name that the model is served under; 404 for another comes later."""

    known: tuple[str, ...]

    def read(self, value: Json, name: str) -> str:
        return Text().read(value, name)

    def schema(self) -> Schema:
        return {"enum": list(self.known)}


def _is_token(value: Json) -> bool:
    if isinstance(value, float):  # JSON knows only numbers
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class CountOrFalse:
    """A count up to a limit; some clients say false where they mean none."""

    high: int

    def read(self, value: Json, name: str) -> int | None:
        return None if value is False else Integer(0, self.high).read(value, name)

    def schema(self) -> Schema:
        return {"anyOf": [Integer(0, self.high).schema(), {"const": False}]}


@dataclass(frozen=True)
class TextFormat:
    """`response_format`, which here is always text."""

    def read(self, value: Json, name: str) -> None:
        if fields.mapping(value, name).get("type") != "text":
            raise fields.unsupported(name)

    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {"type": {"const": "text"}},
            "required": ["type"],
        }


# --- the tables ---


def model_field(served: Served, *, required: bool) -> Field:
    """The field that says which model is asked."""
    help_ = "One of the names that the model is served under."
    return Field("model", ModelName(served.models), help_, required=required)


_COMMON: Table = (
    Field("stream", Boolean(), "Send the answer piece by piece, as server-sent events."),
    Field(
        "stream_options",
        Object((Field("include_usage", Boolean(), "Send token counts in a last chunk."),)),
        "Only with `stream`.",
    ),
    Field("temperature", Number(0, 2), "How freely to draw; 0 takes the likeliest token."),
    Field("top_p", Number(0, 1), "Draw from the likeliest tokens that make up this share."),
    Field("top_k", Integer(-1), "Draw from so many of the likeliest; 0 and -1: from all."),
    Field("min_p", Number(0, 1), "Leave out what is below this share of the likeliest."),
    Field("seed", Integer(), "The same request with the same seed gets the same answer."),
    Field("stop", OneOrMore(Array(Text(1), "stop strings", most=_MAX_STOPS)), "End before these."),
    Field("presence_penalty", Number(-2, 2), "Taken from the logits of tokens already used."),
    Field("frequency_penalty", Number(-2, 2), "The same, as often as each was used."),
    Field("repetition_penalty", Number(0.01, 100), "Divides the logits of used tokens."),
    Field("user", Text(), "Ignored."),
    Field("metadata", Object(), "Ignored."),
    Field("response_format", TextFormat(), "Text only."),
)
REFUSED = "Not supported, except where it asks for nothing."


def _refused(harmless: Mapping[str, tuple[Json, ...]]) -> Table:
    """Fields that would change the answer if they were ignored, with the values that would not."""
    return tuple(Field(name, Only(values), REFUSED) for name, values in harmless.items())


_NEITHER_HAS = _refused(
    {
        "service_tier": ("auto", "default"),
        "guided_json": (),
        "guided_regex": (),
        "guided_choice": (),
        "guided_grammar": (),
        "structured_outputs": (),
        "min_tokens": (0,),
        "ignore_eos": (False,),
        "use_beam_search": (False,),
        "bad_words": ([],),
        "allowed_token_ids": (),
        "logits_processors": ([],),
        "length_penalty": (1,),
        "early_stopping": (False,),
        "include_stop_str_in_output": (False,),
        "return_tokens_as_token_ids": (False,),
        "skip_special_tokens": (True,),
        "truncate_prompt_tokens": (),
        "prompt_logprobs": (),
    }
)
_NOT_IN_CHAT = _refused(
    {
        "tools": ([],),
        "functions": ([],),
        "tool_choice": ("none", "auto"),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "moderation": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "store": (False,),
        "echo": (False,),
        "best_of": (1,),
        "add_special_tokens": (False,),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "documents": ([],),
    }
)
_NOT_IN_COMPLETIONS = _refused({"suffix": ("",), "add_special_tokens": (True,)})


def _of_tokens(served: Served) -> Table:
    bias = LogitBias(Number(-100, 100), served.vocab_size)
    return (
        Field("logit_bias", bias, "Added to the logits of token ids."),
        Field("stop_token_ids", Tokens(served.vocab_size), "End at these."),
    )


@functools.cache
def chat_table(served: Served) -> Table:
    """The fields of /v1/chat/completions."""
    messages = Messages(served.roles)
    return (
        model_field(served, required=False),
        Field("messages", messages, "The conversation; a model answers as its assistant."),
        Field("conversation", Conversation(messages), "The same, as the server of 2023 called it."),
        Field("max_completion_tokens", Integer(1), "The most tokens to answer with."),
        Field("max_tokens", Integer(1), "The same, by its older name."),
        Field("max_generated_tokens", Integer(1), "The same, as the server of 2023 called it."),
        Field("n", Integer(1, served.max_choices), "How many answers."),
        *_COMMON,
        *_of_tokens(served),
        Field("logprobs", Boolean(), "Say how likely each token was."),
        Field("top_logprobs", Integer(0, MAX_LOGPROBS), "And so many of the likeliest there."),
        Field("parallel_tool_calls", Boolean(), "Ignored: there are no tools."),
        Field("safety_identifier", Text(), "Ignored."),
        Field("prompt_cache_key", Text(), "Ignored."),
        *_NOT_IN_CHAT,
        *_NEITHER_HAS,
    )


@functools.cache
def completion_table(served: Served) -> Table:
    """The fields of /v1/completions."""
    return (
        model_field(served, required=True),
        Field(
            "prompt",
            Prompts(served.vocab_size),
            "What to go on from. In text no control token is recognised, and the one that every "
            "text begins with is put before it; token ids are taken as they are.",
            required=True,
        ),
        Field("max_tokens", Integer(0), "The most tokens to answer with; 0 answers with none."),
        Field("max_completion_tokens", Integer(0), "The same."),
        Field("max_generated_tokens", Integer(0), "The same."),
        Field("n", Integer(1, served.max_choices), "How many answers to each prompt."),
        Field("best_of", Integer(1, served.max_choices), "Only as many as `n`."),
        Field("echo", Boolean(), "Give the prompt back before the answer."),
        *_COMMON,
        *_of_tokens(served),
        Field("logprobs", CountOrFalse(MAX_LOGPROBS), "Say so many of the likeliest tokens."),
        *_NOT_IN_COMPLETIONS,
        *_NEITHER_HAS,
    )
