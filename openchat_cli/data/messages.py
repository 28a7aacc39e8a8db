"""Lists of turns, as ShareGPT dumps (`from`, `value`) and OpenAI's files (`role`, `content`) write
them.

entry                     what becomes of it
system, developer         the leading ones are one system message
human, user, prompter     a human turn: plain text, verbatim
gpt, assistant, chatgpt,  an answer: HTML or Markdown, each by itself
  bing, bard, bot, model
tool, function, calls     the conversation is left out: tool_use
content in parts          texts are joined; reasoning is left out; pictures, sound and files leave
                          the conversation out: not_text
content null              the refusal, where there is one
name                      left out
weight                    kept
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from openchat_cli.data import forms
from openchat_cli.data.candidates import Form, RejectError, Turn

_ROLES = {
    "developer": "system",
    "prompter": "human",
    "bot": "gpt",
    "model": "gpt",
    "ai": "gpt",
    "chatbot": "gpt",
}
_TOOLS = {"tool", "tools", "function", "function_call", "function_response", "observation"}
_ASKED = {"human", "user", "system"}
_TEXT_PARTS = {"text", "input_text", "output_text", "refusal"}
_REASONING_PARTS = {"thinking", "redacted_thinking", "reasoning", "summary_text"}
# Where the text stands: the first of these that holds any.
_TEXT_KEYS = ("value", "content", "markdown", "text", "refusal")


def turns(entries: Sequence[Any], *, html: bool | None) -> tuple[Turn, ...]:
    """The turns of a list; `html` None: each answer's own form says whether it is HTML.

    Raises RejectError for an entry that can't be a turn of text.
    """
    found = list(_turns(entries, html))
    leading = 0
    while leading < len(found) and found[leading].role == "system":
        leading += 1
    if leading > 1:
        text = "\n\n".join(turn.text for turn in found[:leading])
        found[:leading] = [Turn("system", text, "text", found[0].weight)]
    return tuple(found)


def _turns(entries: Sequence[Any], html: bool | None) -> Iterator[Turn]:
    for number, entry in enumerate(entries, 1):
        place = f"turn {number}"
        if not isinstance(entry, dict):
            raise RejectError("bad_turn", f"a {type(entry).__name__}", place)
        name = entry.get("from", entry.get("role"))
        if not isinstance(name, str):
            raise RejectError("bad_turn", "no role", place)
        role = name.strip().lower()
        role = _ROLES.get(role, role)
        if role in _TOOLS or entry.get("tool_calls") or entry.get("function_call"):
            raise RejectError("tool_use", f"'{name}'" if role in _TOOLS else "a call", place)
        text, key = _text(entry, place)
        yield Turn(role, text, _form(role, text, key, html), number_of(entry.get("weight")))


def _form(role: str, text: str, key: str, html: bool | None) -> Form:
    if role in _ASKED:
        return "text"
    if html is None:
        html = key != "markdown" and forms.is_html(text)
    elif html and not forms.has_markup(text):
        html = False  # a page's answer that was never rendered
    return "html" if html else "markdown"


def _text(entry: dict[str, Any], place: str) -> tuple[str, str]:
    """(text, the key where it stands)"""
    for key in _TEXT_KEYS:
        value = entry.get(key)
        if isinstance(value, str):
            return value, key
        if isinstance(value, list):
            return _joined(value, place), key
    if isinstance(entry.get("audio"), dict):
        raise RejectError("not_text", "audio", place)
    raise RejectError("bad_turn", "no text", place)


def _joined(parts: list[Any], place: str) -> str:
    texts: list[str] = []
    for part in parts:
        kind = str(part.get("type", "text")) if isinstance(part, dict) else "text"
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
        if kind in _REASONING_PARTS:
            continue
        if kind in ("tool_use", "tool_result", "tool_call"):
            raise RejectError("tool_use", kind, place)
        if kind not in _TEXT_PARTS:
            raise RejectError("not_text", kind[:40], place)
        if not isinstance(text, str):
            raise RejectError("bad_turn", "a part without text", place)
        texts.append(text)
    return "\n".join(texts)


def number_of(value: object) -> float | None:
    """A number that a row can hold; None for anything else, NaN and infinity too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None
