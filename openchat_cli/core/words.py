"""Tokenising by words whose ids are remembered: most words of a text were seen before."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final

ID: Final = "i"  # array's code of a packed id: 32 bits, in the machine's order
ID_BYTES = array(ID).itemsize

_REMEMBERED = 200_000  # words, some 40 MB
_LONGEST = 64  # characters of a remembered word


def unpack(packed: bytes) -> list[int]:
    """The ids of packed ones."""
    return memoryview(packed).cast(ID).tolist()


class WordMemory:
    """Ids of texts from the ids of their words; unknown words are tokenised together.

    Ids are kept packed (ID): joining bytes is several times faster than joining lists, and takes a
    third of the memory. Safe to share between threads: at worst two of them tokenise the same new
    word.
    """

    def __init__(self, tokenize: Callable[[list[str]], Iterable[list[int]]]) -> None:
        self._tokenize = tokenize
        self._known: dict[str, bytes] = {}

    def ids(self, texts: Sequence[list[str]]) -> list[list[int]]:
        """The ids of each text, given as its words."""
        return [unpack(packed) for packed in self.packed(texts)]

    def packed(self, texts: Sequence[list[str]]) -> list[bytes]:
        """As `ids`, packed."""
        known = self._known
        words = set().union(*texts)
        missing = list(words.difference(known))
        if len(known) + len(missing) > _REMEMBERED:
            known = self._known = {}
            missing = list(words)
        long: dict[str, bytes] = {}
        for word, ids in zip(missing, self._tokenize(missing), strict=True):
            (known if len(word) <= _LONGEST else long)[word] = array(ID, ids).tobytes()
        return [_join(words, known, long) for words in texts]


def _join(words: list[str], known: dict[str, bytes], long: dict[str, bytes]) -> bytes:
    try:
        return b"".join(map(known.__getitem__, words))
    except KeyError:  # a long word, tokenised for this call alone
        return b"".join([long[word] if word in long else known[word] for word in words])
