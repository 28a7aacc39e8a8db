"""Token ids to text while they come: whole characters only, nothing of a stop string.

Works on bytes, since a character may be spread over several tokens and a token may be a stray
byte. Python's incremental UTF-8 decoder holds back at most the three bytes of a character that may
still be completed, and replaces what can't become one at once, so nothing stalls.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence


class TextStream:
    """The text of one answer.

    `token_bytes` gives the bytes of a token (b"" for a control token). `drop_space` drops one
    space at the very start: the one SentencePiece puts before every text.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        *,
        stop: Sequence[str] = (),
        drop_space: bool = False,
    ) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop)
        self._held = ""  # may be the start of a stop string
        self._at_start = drop_space
        self._parts: list[str] = []
        self.given = 0  # characters given out
        self.stopped = False  # a stop string was found; what follows is dropped

    @property
    def text(self) -> str:
        """All that was given out so far."""
        return "".join(self._parts)

    def place(self, token: int) -> int:
        """Which character of the text `token` will begin in, counting those held back."""
        unfinished = self._decoder.getstate()[0]
        piece = self._token_bytes(token)
        # A byte that can't go on with an unfinished character leaves that to become one U+FFFD.
        replaced = unfinished and piece and not 0x80 <= piece[0] < 0xC0
        return self.given + len(self._held) + bool(replaced)

    def push(self, token: int) -> str:
        """The text that is certain once `token` has come."""
        return self._give(self._decoder.decode(self._without_first_space(token)))

    def finish(self) -> str:
        """The text still held back; an unfinished character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._give(self._decoder.decode(b"", final=True))
        rest, self._held = self._held, ""
        if not self.stopped and rest:
            self._add(rest)
            text += rest
        return text

    def _without_first_space(self, token: int) -> bytes:
        piece = self._token_bytes(token)
        if self._at_start and piece:
            self._at_start = False
            return piece.removeprefix(b" ")
        return piece

    def _give(self, fresh: str) -> str:
        if not fresh or self.stopped:
            return ""
        text = self._held + fresh
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            text = text[: min(found)]
        else:
            keep = held_back(text, self._stops)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if text:
            self._add(text)
        return text

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self.given += len(text)


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the start of one of `stops`."""
    longest = min(len(text), max((len(stop) - 1 for stop in stops), default=0))
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(stop.startswith(tail) for stop in stops):
            return length
    return 0
