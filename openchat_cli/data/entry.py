"""One conversation on its way through the filter: its line, its fields, what is written of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.records import Conversation, Row
from openchat_cli.data import models

# Messages that are no turn: what the system and tools say is nobody's move in the conversation.
_NO_TURN = {"system", "developer", "tool", "function"}
_MESSAGES = ("messages", "items", "conversations")  # the shapes, in the order they are looked for


@dataclass(slots=True)
class Entry:
    """A row as it came, and `language`, which detection may fill in."""

    line: bytes
    row: Row
    conversation: Conversation
    language: str | None

    def turns(self) -> int:
        """The messages of user and assistant: a question and its answer are two."""
        return sum(message.role not in _NO_TURN for message in self.conversation.messages)

    def chars(self) -> int:
        """The characters of all messages together."""
        return sum(len(message.content) for message in self.conversation.messages)

    def longest(self) -> int:
        """The characters of the longest message."""
        return max((len(message.content) for message in self.conversation.messages), default=0)

    def label(self) -> str | None:
        """The model's name as reports list it."""
        return None if self.conversation.model is None else models.plain(self.conversation.model)

    def encoded(self) -> bytes:
        """The line to write: as it came, unless it had another shape or its language is new."""
        own = self.row.get("kind") == Conversation.kind
        row = self.row if own else self._in_our_shape()
        if self.language != self.conversation.language:
            row = {**row, "language": self.language}
        elif own:
            return self.line.strip() + b"\n"
        try:
            return jsonl.dumps(row).encode() + b"\n"
        except ValueError:  # NaN, which is no JSON: other fields stay as they came, this one too
            return json.dumps(row, separators=(",", ":")).encode() + b"\n"

    def _in_our_shape(self) -> dict[str, Any]:
        """The row as one of ours, its other fields after those."""
        ours = self.conversation.to_row()
        used = next(name for name in _MESSAGES if name in self.row)
        rest = {key: self.row[key] for key in self.row if key not in ours and key != used}
        return {**ours, **rest}
