"""Conversations in one JSON or JSONL stream, taken apart without holding it whole.

lines     a JSON object a line
array     `[…]` of conversations
keyed     `{"ID": conversation, …}`
wrapped   `{"data": […]}`: an array in an object, after nothing but short values
values    one JSON value, or several after each other
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from openchat_cli.data import shapes
from openchat_cli.data.streams import Readable
from openchat_cli.data.window import BLANK, Window
from openchat_cli.data.worker import Item

_CHUNK = 1 << 20  # bytes
_LONGEST_LINE = 1 << 22  # bytes of a first line that are read to see whether it is one
_BOM = b"\xef\xbb\xbf"
_REST = "what follows in the file can't be read"


class WrongFileError(Exception):
    """The stream is no dump at all; the message says what it holds."""


def items(stream: Readable, source: str) -> Iterator[Item]:
    """One item for each conversation; WrongFileError where the first value can't be one."""
    head = _head(stream)
    begun = head.lstrip()
    if not begun:
        return
    coding = _odd_coding(head)
    if coding:
        problem = ("not_utf8", f"{coding}: save it as UTF-8")
        yield Item(source, "", "json", problem=problem)
    elif begun[:1] == b"{" and _is_lines(begun):
        yield from _lines(head, stream, source)
    elif begun[:1] in b"{[":
        window = Window(head, stream)
        in_object = window.skip(BLANK) == "{"
        yield from _members(window, source) if in_object else _elements(window, source)
    else:
        raise WrongFileError(_other(begun))


def _head(stream: Readable) -> bytes:
    """Enough to see the form: where an object begins, its whole first line and more."""
    head = b""
    while chunk := stream.read(max(_CHUNK, len(head))):
        head += chunk
        begun = head.removeprefix(_BOM).lstrip()
        is_line = begun.startswith(b"{") and b"\n" not in begun and len(head) < _LONGEST_LINE
        if len(head) >= len(_BOM) and begun and not is_line:
            break
    return head.removeprefix(_BOM)


def _odd_coding(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        return "UTF-16 or UTF-32"
    return ""


def _other(begun: bytes) -> str:
    if b"\0" in begun[:4096]:
        return "binary data"
    return "plain text" if begun[:1].isalpha() or begun[:1] in b"<#" else "no JSON object or list"


def _is_lines(begun: bytes) -> bool:
    """Whether each line is a value: the first one is, or the second."""
    lines = [line for line in begun.split(b"\n", 8)[:8] if line.strip()]
    first = _object(lines[0])
    if first is not None:
        if len(lines) == 1 and not shapes.is_chat(first):
            return False  # all in one line: it may hold conversations by their ids
        _check(lines[0])
        return True
    second = _object(lines[1]) if len(lines) > 1 else None
    return second is not None and lines[1].lstrip().startswith(b"{")


def _object(line: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check(data: bytes) -> None:
    try:
        found = shapes.other_file(json.loads(data))
    except (ValueError, RecursionError):
        return
    if found:
        raise WrongFileError(found)


def _lines(head: bytes, stream: Readable, source: str) -> Iterator[Item]:
    number = 0
    rest = head
    while rest:
        *lines, tail = rest.split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                # Files that were put one after the other have the mark at each one's beginning.
                yield Item(source, f"line {number}", "json", data=line.removeprefix(_BOM))
        parts = [tail]
        while (chunk := stream.read(_CHUNK)) and b"\n" not in chunk:
            parts.append(chunk)
        rest = b"".join([*parts, chunk])
        if not chunk:
            break
    if rest.strip():
        yield Item(source, f"line {number + 1}", "json", data=rest)


def _members(window: Window, source: str) -> Iterator[Item]:
    """A stream that begins with an object: see which of the forms it is."""
    member = window.first_container()
    if member is None:
        yield from _values(window, source, in_array=False)
        return
    key, value, at = member
    if key in shapes.CHAT_KEYS and not (key != "mapping" and shapes.is_chat(value)):
        yield from _values(window, source, in_array=False)
    elif at is not None and shapes.is_chat(value):
        window.at = at
        yield from _elements(window, source)
    elif shapes.is_chat(value) or shapes.are_turns(value):
        yield from _keyed(window, source)
    else:
        yield from _values(window, source, in_array=False)


def _elements(window: Window, source: str) -> Iterator[Item]:
    """The elements of the array that begins here; a list of turns is one conversation."""
    first = window.first_element()
    if shapes.are_turns([first]):
        yield from _values(window, source, in_array=False)
        return
    window.at += 1
    yield from _values(window, source, in_array=True)


def _values(window: Window, source: str, *, in_array: bool) -> Iterator[Item]:
    """The elements of an array whose bracket is passed, or values that follow each other."""
    number = 0
    while True:
        lead = window.lead(BLANK + "," if in_array or number else BLANK)
        if in_array and window.next == "]":
            return
        number += 1
        where = f"item {number}"
        if not window.next:
            if in_array:
                problem = ("bad_json", "the array is not ended")
                yield Item(source, where, "json", problem=problem)
            return
        data, reason = window.value()
        if data is not None:
            if number == 1:
                _check(data)
            yield Item(source, where, "json", data=data)
            continue
        goes_on = window.resume(lead if in_array else "\n")
        detail = reason if goes_on else f"{reason}; {_REST}"
        yield Item(source, where, "json", problem=("bad_json", detail))
        if not goes_on:
            return


def _keyed(window: Window, source: str) -> Iterator[Item]:
    """The conversations of one object, each under its id."""
    window.at += 1
    number = 0
    while True:
        window.lead(BLANK + ",")
        if window.next == "}":
            return
        number += 1
        key, _ = window.value()
        found = window.skip(BLANK + ":") if key is not None else ""
        data, reason = window.value() if found else (None, "the object is not ended")
        if key is None or data is None:
            problem = ("bad_json", f"{reason}; {_REST}")
            yield Item(source, f"item {number}", "json", problem=problem)
            return
        yield Item(source, f"item {number}", "json", data=_with_id(key, data))


def _with_id(key: bytes, data: bytes) -> bytes:
    """The value with its key as its id, unless it has one of its own (the last one counts)."""
    if data.startswith(b"["):
        return b'{"id":%s,"conversations":%s}' % (key, data)
    inner = data[1:].lstrip()
    comma = b"" if inner.startswith(b"}") else b","
    return b'{"id":%s%s%s' % (key, comma, inner) if data.startswith(b"{") else data
