"""Tokenising by words whose ids are remembered: most words of a text were seen before."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Final

ID: Final = "i"  # array's code of a packed id: 32 bits, in the machine's order
ID_BYTES = array(ID).itemsize

_REMEMBERED = 200_000  # words, some 40 MB
_LONGEST = 64  # characters of a remembered word


def unpack(packed: bytes) -> list[int]:
    """The ids of packed ones."""
    return memoryview(packed).cast(ID).tolist()


class WordMemory(dict[str, bytes]):
    """Ids of texts from the ids of their words; an unknown word is tokenised when it is met.

    Ids are kept packed (ID): joining bytes is several times faster than joining lists, and takes a
    third of the memory. Safe to share between threads: at worst two of them tokenise the same new
    word.
    """

    def __init__(self, tokenize: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._tokenize = tokenize

    def packed(self, words: Iterable[str]) -> bytes:
        """The ids of a text, given as its words."""
        # A dict looked up in C: this is where the time goes.
        return b"".join(map(self.__getitem__, words))

    def __missing__(self, word: str) -> bytes:
        packed = array(ID, self._tokenize(word)).tobytes()
        if len(word) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[word] = packed
        return packed
