"""The messages of a chat request, and how each role is put before a model type.

- `system` and `developer` are one role. A type with a system prefix renders it as any message; one
  without puts the text before the next user message, a blank line between (core/templates.py).
- `tool`, and `function` as it was called once, are read as a user's message by a type that has no
  tool prefix. The calls that an assistant's message lists are written out after its text, each as
  one line of JSON, so that the result has something to refer to.
- Any other role has to be one of the type's own.

Only the text of a message reaches the model: `name`, `tool_call_id` and what else a message has are
checked and left out. All of it is plain text to the tokeniser: no control token can be written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from openchat_cli.core.records import ROLES, Message
from openchat_cli.serving import fields, kinds
from openchat_cli.serving.errors import invalid
from openchat_cli.serving.fields import Json
from openchat_cli.serving.kinds import Field, Object, Only, Schema, Text

_STANDARD = ("system", "developer", "user", "assistant", "tool", "function")
_MAY_BE_SILENT = "assistant"  # the one role whose content may be null


@dataclass(frozen=True)
class Content:
    """A string, or an array of text parts, which are put together as they stand."""

    def read(self, value: Json, name: str) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise fields.wrong_type(name, "a string or an array of text parts", value)
        return "".join(_part(part, f"{name}[{index}]") for index, part in enumerate(value))

    def schema(self) -> Schema:
        part = {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
        }
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": part}]}


def _part(part: Json, name: str) -> str:
    kind = kinds.read(fields.mapping(part, name), [Field("type", Text(), required=True)], name)
    # What an assistant said when it refused counts as its text.
    field = {"text": "text", "refusal": "refusal"}.get(kind["type"])
    if field is None:
        message = f"Invalid '{name}.type': this model reads text only, not '{kind['type']}'."
        raise invalid(message, name, "unsupported_value")
    said: str = kinds.read(part, [Field(field, Text(), required=True)], name)[field]
    return said


_FUNCTION = Object((Field("name", Text(), required=True), Field("arguments", Text())))
_CALL = Object((Field("id", Text()), Field("function", _FUNCTION, required=True)))
_MESSAGE = (
    Field("role", Text(), "Who says it.", required=True),
    Field("content", Content(), "What is said."),
    Field("name", Text(), "Ignored."),
    Field("refusal", Text(), "An assistant's, in place of content."),
    Field("tool_call_id", Text(), "Ignored."),
    Field("tool_calls", kinds.Array(_CALL, "tool calls"), "An assistant's, written out as text."),
    Field("function_call", _FUNCTION, "The same, as it was called once."),
    Field("audio", Only(), "Not supported."),
)


@dataclass(frozen=True)
class Messages:
    """A conversation; `also` are roles that a model type has beyond the usual ones."""

    also: Collection[str] = ()

    def read(self, value: Json, name: str) -> Sequence[Message]:
        if not isinstance(value, list):
            raise fields.wrong_type(name, "an array of messages", value)
        if not value:
            raise fields.empty_array(name)
        return [self._message(entry, f"{name}[{index}]") for index, entry in enumerate(value)]

    def _message(self, entry: Json, name: str) -> Message:
        found = kinds.read(fields.mapping(entry, name), _MESSAGE, name)
        role = found["role"]
        if role not in self._roles:
            supported = ", ".join(f"'{known}'" for known in self._roles)
            message = f"Invalid value: '{role[:40]}'. Supported values are: {supported}."
            raise invalid(message, f"{name}.role", "invalid_value")
        content = found.get("content", found.get("refusal"))
        if content is None and role != _MAY_BE_SILENT:
            raise fields.wrong_type(f"{name}.content", "a string or an array of text parts", None)
        calls = [call["function"] for call in found.get("tool_calls", ())]
        calls += [found["function_call"]] if "function_call" in found else []
        lines = [content or "", *(json.dumps(call, ensure_ascii=False) for call in calls)]
        return Message(role, "\n".join(lines).lstrip("\n") if calls else lines[0])

    @property
    def _roles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*_STANDARD, *self.also)))

    def schema(self) -> Schema:
        others = [role for role in self._roles if role != _MAY_BE_SILENT]
        return {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_message_schema([_MAY_BE_SILENT]), _message_schema(others)]},
        }


def _message_schema(roles: Sequence[str]) -> Schema:
    silent = list(roles) == [_MAY_BE_SILENT]
    found = kinds.object_schema(_MESSAGE)
    found["properties"]["role"] = {"enum": list(roles)}
    if not silent:
        found["properties"]["content"] = Content().schema()
        found["required"].append("content")
    return found


@dataclass(frozen=True)
class Conversation:
    """The server of 2023's own name for the messages; also its data's shape (`from`, `value`)."""

    messages: Messages = Messages()

    def read(self, value: Json, name: str) -> Sequence[Message]:
        if isinstance(value, list):
            value = [_renamed(entry, f"{name}[{index}]") for index, entry in enumerate(value)]
        return self.messages.read(value, name)

    def schema(self) -> Schema:
        entry = {
            "type": "object",
            "properties": {"from": {"enum": sorted(ROLES)}, "value": {"type": "string"}},
            "required": ["from", "value"],
        }
        found = self.messages.schema()
        return {**found, "items": {"anyOf": [*found["items"]["anyOf"], entry]}}


def _renamed(entry: Json, name: str) -> Json:
    if not isinstance(entry, dict) or "from" not in entry or "role" in entry:
        return entry
    table = [Field("from", Text(), required=True), Field("value", Text(), required=True)]
    said = kinds.read(entry, table, name)
    return {"role": ROLES.get(said["from"], said["from"]), "content": said["value"]}


def for_type(messages: Sequence[Message], roles: Collection[str]) -> list[Message]:
    """The messages in roles that a model type has: see the rules above."""
    return [Message(_role(message.role, roles), message.content) for message in messages]


def _role(role: str, roles: Collection[str]) -> str:
    if role in roles:
        return role
    if role == "developer":  # OpenAI's newer name
        return "system"
    if role == "function":
        return _role("tool", roles)
    return "user" if role == "tool" else role
