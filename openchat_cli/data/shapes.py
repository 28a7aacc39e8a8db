"""The shapes in which conversations come as JSON, told apart by their keys.

props            ShareGPT's page data
mapping          one conversation of ChatGPT's own data export
kind             our own rows
conversations,   ShareGPT dumps, with `from` and `value`
items
messages         OpenAI's form, with `role` and `content`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from openchat_cli.data.candidates import Candidate, Form, RejectError, Turn
from openchat_cli.data.export import from_export

# An answer is HTML when it is one element from end to end, as `outerHTML` is.
_HTML = re.compile(
    r"\s*<(?:div|p|pre|ul|ol|table|h[1-6]|blockquote|span|hr|section|article)\b[^>]*>", re.I
)


def from_page(value: Any) -> Candidate:
    """The conversation in a ShareGPT page's data."""
    props = value.get("props") if isinstance(value, dict) else None
    page = props.get("pageProps") if isinstance(props, dict) else None
    if not isinstance(page, dict):
        raise RejectError("no_content", "no props.pageProps")
    content = page.get("content")
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        raise RejectError("no_content", "no content.items")
    name = _id(page.get("id")) or _id(content.get("id"))
    turns = tuple(_turns(content["items"], html=True))
    return Candidate(name, content.get("model"), turns, noisy=True)


def from_json(value: Any) -> Candidate:
    """The conversation in one JSON value, whichever of the known shapes it has."""
    if isinstance(value, list):
        value = {"items": value}
    if not isinstance(value, dict):
        raise RejectError("unknown_shape", f"a {type(value).__name__}")
    if "props" in value:
        return from_page(value)
    if isinstance(value.get("mapping"), dict):
        return from_export(value)
    if value.get("kind", "conversation") != "conversation":
        raise RejectError("unknown_shape", f"a '{value['kind']}' row")
    for key in ("conversations", "items", "messages"):
        entries = value.get(key)
        if isinstance(entries, list):
            return _from_list(value, entries)
    known = ", ".join(list(value)[:8]) or "nothing"
    raise RejectError("unknown_shape", f"an object with {known}")


def _from_list(row: dict[str, Any], entries: list[Any]) -> Candidate:
    named = any(isinstance(entry, dict) and "from" in entry for entry in entries)
    weight = _number(row.get("weight"))
    return Candidate(
        id=_id(row.get("id")) or _id(row.get("conversation_id")),
        model=row.get("model"),
        turns=tuple(_turns(entries, html=None)),
        noisy=named,
        language=_id(row.get("language")),
        condition=_id(row.get("condition")),
        weight=1.0 if weight is None else weight,
    )


def _turns(entries: list[Any], *, html: bool | None) -> Iterator[Turn]:
    """The turns of a list; `html` None: an answer's own form says whether it is HTML."""
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise RejectError("bad_turn", f"a {type(entry).__name__}", f"turn {number}")
        role = entry.get("from", entry.get("role"))
        text = _text(entry.get("value", entry.get("content", entry.get("text"))), number)
        if not isinstance(role, str):
            raise RejectError("bad_turn", "no role", f"turn {number}")
        form: Form = "text"
        if role not in ("human", "user", "system"):
            form = "html" if html or (html is None and _is_html(text)) else "markdown"
        yield Turn(role, text, form, _number(entry.get("weight")))


def _text(value: object, number: int) -> str:
    """A message's text; content in parts must be text alone."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in value]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
        raise RejectError("bad_turn", "content that is not text", f"turn {number}")
    raise RejectError("bad_turn", "no text", f"turn {number}")


def _is_html(text: str) -> bool:
    return _HTML.match(text) is not None and text.rstrip().endswith(">")


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
