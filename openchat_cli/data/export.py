"""ChatGPT's own data export: trees of messages; the current branch is the conversation."""

from __future__ import annotations

from typing import Any

from openchat_cli.data.candidates import Candidate, RejectError, Turn


def from_export(value: dict[str, Any]) -> Candidate:
    """One conversation of `conversations.json`.

    The branch that ends in `current_node`, first message first. Left out are system messages, tool
    calls and what tools answered; texts of the same role that then meet are joined.
    """
    turns: list[Turn] = []
    slug: object = value.get("default_model_slug")
    for message in _branch(value):
        role, text = _role(message), _text(message)
        if role is None or text is None:
            continue
        if role == "assistant":
            slug = (message.get("metadata") or {}).get("model_slug") or slug
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, f"{turns[-1].text}\n\n{text}", turns[-1].form)
        else:
            turns.append(Turn(role, text, "text" if role == "user" else "markdown"))
    name = value.get("conversation_id") or value.get("id")
    return Candidate(name if isinstance(name, str) else None, slug, tuple(turns))


def _branch(value: dict[str, Any]) -> list[dict[str, Any]]:
    mapping = value["mapping"]
    node = value.get("current_node")
    if node not in mapping:
        leaves = [key for key, entry in mapping.items() if _is_leaf(entry)]
        if not leaves:
            raise RejectError("no_content", "an empty message tree")
        node = leaves[-1]
    messages: list[dict[str, Any]] = []
    seen: set[str] = set()
    while isinstance(node, str) and node in mapping and node not in seen:
        seen.add(node)
        entry = mapping[node] if isinstance(mapping[node], dict) else {}
        if isinstance(entry.get("message"), dict):
            messages.append(entry["message"])
        node = entry.get("parent")
    return messages[::-1]


def _is_leaf(entry: object) -> bool:
    return isinstance(entry, dict) and not entry.get("children")


def _role(message: dict[str, Any]) -> str | None:
    role = (message.get("author") or {}).get("role")
    if role not in ("user", "assistant") or message.get("recipient", "all") != "all":
        return None
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    return None if hidden else role


def _text(message: dict[str, Any]) -> str | None:
    """The message's text, None where it has nothing to say; RejectError for pictures."""
    content = message.get("content") or {}
    kind, parts = content.get("content_type", "text"), content.get("parts")
    if kind not in ("text", "multimodal_text") or not isinstance(parts, list):
        return None
    if not all(isinstance(part, str) for part in parts):
        raise RejectError("bad_turn", "content that is not text", str(message.get("id", "")))
    text = "".join(parts)
    return text if text.strip() else None
