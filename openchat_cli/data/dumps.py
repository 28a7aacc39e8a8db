"""Conversations in one JSON or JSONL stream, taken apart without holding it whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Protocol

from openchat_cli.data.worker import Item

_CHUNK = 1 << 20  # bytes
_LONGEST = 1 << 28  # characters of one value; a longer one is taken for broken JSON
_BOM = b"\xef\xbb\xbf"


class Readable(Protocol):
    """As much of a binary file as is needed here."""

    def read(self, size: int, /) -> bytes: ...


def items(stream: Readable, source: str) -> Iterator[Item]:
    """One item for each conversation: a line of JSONL, an element of an array, or the one value."""
    head = _head(stream)
    if head.lstrip()[:1] == b"{" and _is_json(head.lstrip().split(b"\n", 1)[0]):
        yield from _lines(head, stream, source)
    elif head.strip():
        yield from _values(head, stream, source)


def _head(stream: Readable) -> bytes:
    """Enough to see the form: where an object begins, its whole first line."""
    head = b""
    while chunk := stream.read(max(_CHUNK, len(head))):
        head += chunk
        begun = head.removeprefix(_BOM).lstrip()
        is_line = begun.startswith(b"{") and b"\n" not in begun and len(head) < _LONGEST
        if len(head) >= len(_BOM) and begun and not is_line:
            break
    return head.removeprefix(_BOM)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(head: bytes, stream: Readable, source: str) -> Iterator[Item]:
    number = 0
    rest = head
    while rest:
        *lines, tail = rest.split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield Item(source, f"line {number}", "json", data=line)
        parts = [tail]
        while (chunk := stream.read(_CHUNK)) and b"\n" not in chunk:
            parts.append(chunk)
        rest = b"".join([*parts, chunk])
        if not chunk:
            break
    if rest.strip():
        yield Item(source, f"line {number + 1}", "json", data=rest)


class _Text:
    """A window on a stream's text. Bytes that are not UTF-8 travel on as lone surrogates."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        import codecs

        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._stream = stream
        self.text = self._decoder.decode(head)
        self.at = 0
        self.ended = False

    def more(self) -> None:
        """Forget what was used, and read at least as much again as is still there."""
        self.text, self.at = self.text[self.at :], 0
        chunk = self._stream.read(max(_CHUNK, len(self.text)))
        self.ended = not chunk
        self.text += self._decoder.decode(chunk, final=self.ended)

    def skip(self, characters: str) -> str:
        """Go past those characters; gives the next one, "" at the end."""
        while True:
            end = len(self.text)
            while self.at < end and self.text[self.at] in characters:
                self.at += 1
            if self.at < end:
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()


def _values(head: bytes, stream: Readable, source: str) -> Iterator[Item]:
    """The elements of an array, or the values that follow each other."""
    window = _Text(head, stream)
    blank = " \t\r\n"
    in_array = window.skip(blank) == "["
    if in_array:
        window.at += 1
    decoder = json.JSONDecoder()
    number = 0
    while True:
        next_character = window.skip(blank + ",")
        if in_array and next_character == "]":
            return
        number += 1
        where = f"item {number}"
        if not next_character:
            if in_array:
                problem = ("bad_json", "the array is not ended")
                yield Item(source, where, "json", problem=problem)
            return
        try:
            _, end = decoder.raw_decode(window.text, window.at)
        except (ValueError, RecursionError) as error:
            if _may_be_cut(error, window):
                number -= 1
                window.more()
                continue
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            yield Item(source, where, "json", problem=("bad_json", reason))
            return
        data = window.text[window.at : end].encode("utf-8", "surrogateescape")
        yield Item(source, where, "json", data=data)
        window.at = end


def _may_be_cut(error: Exception, window: _Text) -> bool:
    """Whether the value fails only because the rest of it is not read yet."""
    if window.ended or not isinstance(error, json.JSONDecodeError):
        return False
    if len(window.text) - window.at > _LONGEST:
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(window.text) - 16
