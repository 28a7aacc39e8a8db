"""The shapes in which conversations come as JSON, told apart by their keys.

props                     a page's data: ShareGPT's, or one shared by ChatGPT
mapping,                  one conversation of ChatGPT's own data export, or a shared one
linear_conversation
kind                      our own rows
conversations, items,     lists of turns; a list may also be given as JSON in a text
conversation, messages
prompt, instruction, …    one question with its answer (Alpaca's rows, prompt and completion)
text                      turns after the marks `<|user|>:` and `<|bot|>:`
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from openchat_cli.data import messages
from openchat_cli.data.candidates import Candidate, RejectError, Turn
from openchat_cli.data.export import from_export

LIST_KEYS = ("conversations", "items", "messages", "conversation")
CHAT_KEYS = {*LIST_KEYS, "mapping", "linear_conversation", "props"}

_QUESTIONS = ("instruction", "prompt", "question", "query")
_ANSWERS = ("output", "completion", "response", "answer", "chosen")
PAIR_KEYS = {*_QUESTIONS, *_ANSWERS}
_MARK = re.compile(r"^[ \t]*<\|(user|bot|assistant|system)\|>: ?", re.M)
_MARKED_ROLES = {"user": "human", "bot": "gpt", "assistant": "gpt", "system": "system"}
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z]+)?")


def is_chat(value: object) -> bool:
    """Whether a value has the keys of a conversation."""
    return isinstance(value, dict) and (
        any(_may_hold_turns(value.get(key)) for key in CHAT_KEYS)
        or any(isinstance(value.get(key), str) and value[key][:1] == "[" for key in LIST_KEYS)
        or _is_pair(value)
        or _is_marked(value)
    )


def _may_hold_turns(value: object) -> bool:
    """An object or a list, unless the list is one of conversations."""
    first = value[0] if isinstance(value, list) and value else None
    is_chat_list = isinstance(first, dict) and not CHAT_KEYS.isdisjoint(first)
    return isinstance(value, list | dict) and not is_chat_list


def are_turns(value: object) -> bool:
    """Whether a value is a list of turns."""
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    return isinstance(first, dict) and ("from" in first or "role" in first)


def other_file(value: object) -> str:
    """What the file is whose first value this is, "" where it may hold conversations."""
    if isinstance(value, str):
        return "texts without roles"
    if isinstance(value, list):
        is_tokens = len(value) == 2 and all(isinstance(part, list) for part in value)
        if is_tokens and value[0] and isinstance(value[0][0], int):
            return "a token dataset"
        return ""
    if not isinstance(value, dict):
        return "no conversations"
    kind = value.get("kind", "conversation")
    if kind != "conversation" and isinstance(kind, str):
        return _KINDS.get(kind, f"'{kind}' rows")
    if is_chat(value):
        return ""
    if "question_id" in value:
        return "answers" if "answer_id" in value else "questions"
    return "a map's points" if "embedding" in value and "text" in value else ""


_KINDS = {
    "dropped": "dropped pages, each with its reason",
    "question": "questions",
    "answer": "answers",
    "judgment": "judgments",
    "step": "a training log",
    "eval": "a training log",
    "summary": "a command's --json summary",
    "dataset": "a token dataset's manifest",
    "clean_report": "a report",
    "filter_report": "a report",
}


def from_page(value: Any) -> Candidate:
    """The conversation in a page's data."""
    props = value.get("props") if isinstance(value, dict) else None
    page = props.get("pageProps") if isinstance(props, dict) else None
    if not isinstance(page, dict):
        raise RejectError("no_content", "no props.pageProps")
    shared = page.get("serverResponse")
    if isinstance(shared, dict) and isinstance(shared.get("data"), dict):
        return from_export(shared["data"])
    content = page.get("content")
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        raise RejectError("no_content", "no content.items")
    name = _id(page.get("id")) or _id(content.get("id"))
    with _named(name):
        turns = messages.turns(content["items"], html=True)
    return Candidate(name, content.get("model"), turns, noisy=True)


@contextmanager
def _named(name: str | None) -> Iterator[None]:
    """Have a conversation that is left out in here told by its id."""
    try:
        yield
    except RejectError as error:
        error.id = error.id or name
        raise


def from_json(value: Any) -> Candidate:
    """The conversation in one JSON value, whichever of the known shapes it has."""
    if isinstance(value, list):
        value = {"items": value}
    if not isinstance(value, dict):
        raise RejectError("unknown_shape", f"a {type(value).__name__}")
    if "props" in value:
        return from_page(value)
    with _named(_name(value)):
        return _from_object(value)


def _from_object(value: dict[str, Any]) -> Candidate:
    if isinstance(value.get("mapping"), dict) or "linear_conversation" in value:
        return from_export(value)
    kind = value.get("kind", "conversation")
    if kind != "conversation" and isinstance(kind, str) and "version" in value:
        raise RejectError("unknown_shape", f"a '{kind}' row")
    for key in LIST_KEYS:
        entries = _entries(value.get(key))
        if entries is not None:
            noisy = any(isinstance(entry, dict) and "from" in entry for entry in entries)
            # What we wrote is Markdown, even where all of it looks like HTML.
            is_ours = "kind" in value and "version" in value
            turns = messages.turns(entries, html=False if is_ours else None)
            return _row(value, turns, noisy=noisy)
    asked = _pair(value) or _marked(value)
    if asked:
        return _row(value, asked)
    known = ", ".join(str(key)[:40] for key in list(value)[:8]) or "nothing"
    raise RejectError("unknown_shape", f"an object with {known}")


def _entries(value: object) -> list[Any] | None:
    """A list of turns, also one that is written as JSON in a text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _row(row: dict[str, Any], turns: tuple[Turn, ...], *, noisy: bool = False) -> Candidate:
    weight = messages.number_of(row.get("weight"))
    language = _id(row.get("language")) or _id(row.get("lang"))
    return Candidate(
        id=_name(row),
        model=row.get("model"),
        turns=turns,
        noisy=noisy,
        language=language if language and _LANGUAGE.fullmatch(language) else None,
        condition=_id(row.get("condition")),
        weight=1.0 if weight is None else weight,
    )


def _is_pair(row: dict[str, Any]) -> bool:
    question, answer = _first(row, _QUESTIONS), _first(row, _ANSWERS)
    both_texts = isinstance(question, str) and isinstance(answer, str)
    return both_texts or (are_turns(question) and are_turns(answer))


def _first(row: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _pair(row: dict[str, Any]) -> tuple[Turn, ...] | None:
    """A question with its answer, with earlier ones and a system message where the row has them."""
    if not _is_pair(row):
        return None
    question, answer = _first(row, _QUESTIONS), _first(row, _ANSWERS)
    if not isinstance(question, str):
        return messages.turns([*question, *answer], html=None)
    more = row.get("input")
    if isinstance(more, str) and more.strip():
        question = f"{question}\n\n{more}"
    entries: list[dict[str, str]] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        entries.append({"role": "system", "content": row["system"]})
    history = row.get("history")
    for pair in history if isinstance(history, list) else ():
        if isinstance(pair, list) and len(pair) == 2:
            entries += _asked(pair[0], pair[1])
    return messages.turns([*entries, *_asked(question, answer)], html=None)


def _asked(question: Any, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _is_marked(row: dict[str, Any]) -> bool:
    text = row.get("text")
    return isinstance(text, str) and _MARK.match(text.lstrip()) is not None


def _marked(row: dict[str, Any]) -> tuple[Turn, ...]:
    if not _is_marked(row):
        return ()
    parts = _MARK.split(row["text"])[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    entries = [{"from": _MARKED_ROLES[role], "value": text.strip("\n")} for role, text in pairs]
    return messages.turns(entries, html=None)


def _name(row: dict[str, Any]) -> str | None:
    names = (_id(row.get(key)) for key in ("id", "conversation_id", "conversation_hash"))
    return next(filter(None, names), None)


def _id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
        return str(value)
    return value if isinstance(value, str) and value else None
