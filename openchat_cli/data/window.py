"""A window on a JSON text that is read piece by piece, and what can be seen through it."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import TypeVar

from openchat_cli.data.streams import Readable

BLANK = " \t\r\n"
_CHUNK = 1 << 20  # bytes
_LONGEST = 1 << 28  # characters of one value; a longer one is taken for broken JSON
_TOO_DEEP = "nested too deep"

Found = TypeVar("Found")


class Window:
    """Reads values from a stream. Bytes that are not UTF-8 travel on as lone surrogates."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._stream = stream
        # Numbers stay text here: whoever wants the value parses it, and a number of too many
        # digits must not end the whole file.
        self._json = json.JSONDecoder(parse_int=str, parse_float=str)
        self.text = self._decoder.decode(head)
        self.at = 0
        self.ended = False

    @property
    def next(self) -> str:
        """The character here, "" at the end of what was read."""
        return self.text[self.at : self.at + 1]

    def more(self) -> None:
        """Forget what was used, and read at least as much again as is still there."""
        self.text, self.at = self.text[self.at :], 0
        chunk = self._stream.read(max(_CHUNK, len(self.text)))
        self.ended = not chunk
        self.text += self._decoder.decode(chunk, final=self.ended)

    def skip(self, characters: str) -> str:
        """Go past those characters; gives the next one, "" at the end."""
        self.lead(characters)
        return self.next

    def lead(self, characters: str) -> str:
        """Go past those characters; gives the last of them, from the last line end on."""
        passed = ""
        while True:
            begin, end = self.at, len(self.text)
            while self.at < end and self.text[self.at] in characters:
                self.at += 1
            passed = (passed + self.text[begin : self.at])[-64:]
            if self.at < end or self.ended:
                at = passed.rfind("\n")
                return passed[at:] if at >= 0 else ""
            self.more()

    def value(self) -> tuple[bytes | None, str]:
        """(the bytes of the value here, ""), and go past it; (None, reason) for broken JSON."""
        while True:
            try:
                _, end = self._json.raw_decode(self.text, self.at)
            except RecursionError:
                return None, _TOO_DEEP
            except ValueError as error:
                if not self._may_be_cut(error):
                    return None, error.msg if isinstance(error, json.JSONDecodeError) else "broken"
                self.more()
                continue
            data = self.text[self.at : end].encode("utf-8", "surrogateescape")
            self.at = end
            return data, ""

    def resume(self, lead: str) -> bool:
        """Go to the next object that stands after such a lead; False where there is none.

        What is broken can't be measured, but where each object begins a line of its own the next
        one can be found.
        """
        if not lead.startswith("\n"):
            return False
        wanted = re.compile(rf"(?<={re.escape(lead)})\{{")
        self.at += 1
        while True:
            match = wanted.search(self.text, self.at)
            if match:
                self.at = match.start()
                return True
            if self.ended:
                return False
            self.at = max(self.at, len(self.text) - len(lead))
            self.more()

    def first_element(self) -> object:
        """The first element of the array that begins here, None where it has none."""
        found = self._peek(lambda: self._element_at(self.at))
        return found[0] if found else None

    def first_container(self) -> tuple[str, object, int | None] | None:
        """The first member of the object here that is an object or a list: (key, value, place).

        Of a list only the first element is the value, and the place is where the list begins.
        """
        return self._peek(self._container)

    def _container(self) -> tuple[str, object, int | None] | None:
        at = self._blank(self.at + 1)
        while self._at(at) == '"':
            key, at = self._json.raw_decode(self.text, at)
            at = self._blank(self._blank(at) + 1)
            if self._at(at) == "[":
                found = self._element_at(at)
                return str(key), found[0] if found else None, at
            value, end = self._json.raw_decode(self.text, at)
            if isinstance(value, dict):
                return str(key), value, None
            at = self._blank(end)
            if self._at(at) != ",":
                break
            at = self._blank(at + 1)
        return None

    def _element_at(self, at: int) -> tuple[object] | None:
        begin = self._blank(at + 1)
        if self._at(begin) == "]":
            return None
        return (self._json.raw_decode(self.text, begin)[0],)

    def _blank(self, at: int) -> int:
        while self._at(at) in BLANK:
            at += 1
        return at

    def _at(self, at: int) -> str:
        """The character there; past the end of what was read an error like a cut value's."""
        if at >= len(self.text):
            raise json.JSONDecodeError("Unterminated string", self.text, len(self.text))
        return self.text[at]

    def _peek(self, look: Callable[[], Found | None]) -> Found | None:
        """What `look` finds in the text here, reading on while that is cut off."""
        while True:
            try:
                return look()
            except RecursionError:
                return None
            except ValueError as error:
                if not self._may_be_cut(error):
                    return None
                self.more()

    def _may_be_cut(self, error: ValueError) -> bool:
        """Whether a value fails only because the rest of it is not read yet."""
        if self.ended or not isinstance(error, json.JSONDecodeError):
            return False
        if len(self.text) - self.at > _LONGEST:
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - 16
