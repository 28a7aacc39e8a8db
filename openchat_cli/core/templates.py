"""A conversation as token ids: the one place that knows the format.

BOS, then for every message: the ids of its role's prefix, the ids of its text, the end-of-turn id.
Prefix and text are tokenised apart, each as plain text, so that no control token written in a text
becomes one. The same functions serve training, answering and serving.

A system message has no prefix of its own in the built-in types: its text goes before the next user
message's, a blank line between. Where a type has a `system` role, it is rendered as any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from openchat_cli.core.errors import InputError
from openchat_cli.core.records import Message
from openchat_cli.core.registry import ModelType


class Tokenizer(Protocol):
    """What rendering needs of a tokeniser (see tokens.py for the real ones)."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eot_id(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """The ids of plain text: nothing added, no control token recognised."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids and, for each, whether training learns it (the assistant's text and its EOT)."""

    ids: list[int]
    mask: list[bool]


class Turn(NamedTuple):
    """A message as it is laid out: the ids of `prefix`, those of the text, then the EOT."""

    prefix: str
    message: Message

    @property
    def learned(self) -> bool:
        """Whether training learns the text and its EOT."""
        return self.message.role == "assistant"


def turns(kind: ModelType, messages: Iterable[Message]) -> list[Turn]:
    """The conversation's turns after BOS; InputError for a role that the type can't render."""
    return [Turn(_prefix(kind, message.role), message) for message in fold_system(kind, messages)]


def render(kind: ModelType, tokenizer: Tokenizer, messages: Iterable[Message]) -> Rendered:
    """The whole conversation; nothing is cut to the context here.

    Raises InputError for a role that the type can't render.
    """
    ids = _start(tokenizer)
    mask = [False] * len(ids)
    for turn in turns(kind, messages):
        prefix = tokenizer.encode(turn.prefix)
        text = tokenizer.encode(turn.message.content)
        ids += prefix
        ids += text
        ids.append(tokenizer.eot_id)
        mask += [False] * len(prefix) + [turn.learned] * (len(text) + 1)
    return Rendered(ids, mask)


def prompt(kind: ModelType, tokenizer: Tokenizer, messages: Iterable[Message]) -> list[int]:
    """The ids up to where the assistant's next text begins."""
    return render(kind, tokenizer, messages).ids + tokenizer.encode(_prefix(kind, "assistant"))


def template_hash(kind: ModelType) -> str:
    """A short name for the format: equal hashes mean equal prefixes, BOS and EOT."""
    parts = {"roles": dict(kind.roles), "bos": kind.bos, "eot": kind.eot}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def fold_system(kind: ModelType, messages: Iterable[Message]) -> Sequence[Message]:
    """The messages with system texts moved before the user's, where the type has no system role."""
    if "system" in kind.roles:
        return list(messages)
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content)
        elif message.role == "user" and waiting:
            text = "\n\n".join([*waiting, message.content])
            folded.append(Message("user", text, message.weight))
            waiting = []
        else:
            folded.append(message)
    if waiting:
        folded.append(Message("user", "\n\n".join(waiting)))
    return folded


def _start(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id]


def _prefix(kind: ModelType, role: str) -> str:
    try:
        return kind.roles[role]
    except KeyError:
        hint = f"it has {', '.join(kind.roles)}"
        raise InputError(f"model type {kind.name} has no role '{role}'", hint) from None
