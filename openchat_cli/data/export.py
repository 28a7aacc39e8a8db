"""ChatGPT's own data export: trees of messages; the branch on show is the conversation.

message on the branch                what becomes of it
user, assistant, seen by the reader  a turn; answers that follow each other are joined
hidden, of weight 0, system          left out, custom instructions and memory too
for a tool or by one, reasoning      left out
a canvas                             the conversation is left out (tool_use): the answer stands
                                     in a document beside it
pictures, sound without transcript,  the conversation is left out (not_text): an answer to what a
attached files                       row can't hold teaches nothing
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openchat_cli.data.candidates import Candidate, RejectError, Turn
from openchat_cli.data.export_text import text_of

Json = dict[str, Any]

_HIDDEN_CHANNELS = ("analysis", "commentary")
_NO_MODEL = ("auto", "")


def from_export(value: Json) -> Candidate:
    """One conversation of `conversations.json`, or one that ChatGPT's page for sharing holds.

    Its model is that of the last answer on the branch.
    """
    turns: list[Turn] = []
    slug = _default_model(value)
    for message in _branch(value):
        role = _role(message)
        _check_tool(message)
        text = text_of(message, role)
        if role is None or text is None:
            continue
        if role == "assistant":
            found = _object(message.get("metadata")).get("model_slug")
            slug = slug if found in (None, *_NO_MODEL) else found
        if turns and turns[-1].role == role == "assistant":
            turns[-1] = Turn(role, f"{turns[-1].text}\n\n{text}", turns[-1].form)
        else:
            turns.append(Turn(role, text, "text" if role == "user" else "markdown"))
    name = value.get("conversation_id") or value.get("id")
    return Candidate(name if isinstance(name, str) else None, slug, tuple(turns))


def _default_model(value: Json) -> object:
    model = value.get("default_model_slug") or value.get("model")
    slug = model.get("slug") if isinstance(model, dict) else model
    return None if slug in _NO_MODEL else slug


def _branch(value: Json) -> list[Json]:
    """The messages on the way from the root to the current node, the first one first."""
    mapping = value.get("mapping")
    linear = value.get("linear_conversation")
    if isinstance(linear, list) and linear:
        return [node["message"] for node in linear if _has_message(node)]
    if not isinstance(mapping, dict) or not mapping:
        raise RejectError("no_content", "an empty message tree")
    messages: list[Json] = []
    seen: set[str] = set()
    node = _current(value.get("current_node"), mapping)
    while isinstance(node, str) and node in mapping and node not in seen:
        seen.add(node)
        entry = _object(mapping[node])
        if _has_message(entry):
            messages.append(entry["message"])
        node = entry.get("parent")
    if not messages:
        raise RejectError("no_content", "a message tree without messages")
    return messages[::-1]


def _has_message(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("message"), dict)


def _current(node: object, mapping: Json) -> object:
    """The current node; where it is missing or wrong the newest leaf, of equal ones the last."""
    if isinstance(node, str) and node in mapping:
        return node
    return max(_leaves(mapping), default=(0.0, 0, None))[2]


def _leaves(mapping: Json) -> Iterator[tuple[float, int, str]]:
    """(time, place, id) of each node that is no other's parent."""
    above = [entry.get("parent") for entry in mapping.values() if _has_message(entry)]
    parents = {name for name in above if isinstance(name, str)}
    for place, (name, entry) in enumerate(mapping.items()):
        if name not in parents and _has_message(entry):
            time = entry["message"].get("create_time")
            is_time = isinstance(time, int | float) and 0 <= time < 1e12
            yield float(time) if is_time else 0.0, place, name


def _role(message: Json) -> str | None:
    """user or assistant, None for what the reader of the chat did not see as either's words."""
    role = _object(message.get("author")).get("role")
    metadata = _object(message.get("metadata"))
    is_shown = (
        role in ("user", "assistant")
        and message.get("recipient") in (None, "all")
        and message.get("weight") != 0
        and message.get("channel") not in _HIDDEN_CHANNELS
        and not metadata.get("is_visually_hidden_from_conversation")
        and not metadata.get("is_user_system_message")
    )
    return role if is_shown else None


def _check_tool(message: Json) -> None:
    if str(message.get("recipient", "")).startswith("canmore."):
        raise RejectError("tool_use", "a canvas", str(message.get("id", "")))


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}
