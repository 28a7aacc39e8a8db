"""Tokenising by words whose ids are remembered: most words of a text were seen before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REMEMBERED = 400_000  # words, some 100 MB
_LONGEST = 64  # characters of a remembered word


class WordMemory:
    """Ids of texts from the ids of their words; unknown words are tokenised together.

    Safe to share between threads: at worst two of them tokenise the same new word.
    """

    def __init__(self, tokenize: Callable[[list[str]], list[list[int]]]) -> None:
        self._tokenize = tokenize
        self._known: dict[str, list[int]] = {}

    def ids(self, texts: Sequence[list[str]]) -> list[list[int]]:
        """The ids of each text, given as its words."""
        known = self._known
        missing = {word for words in texts for word in words if word not in known}
        if len(known) + len(missing) > _REMEMBERED:
            known = self._known = {}
            missing = {word for words in texts for word in words}
        fresh = list(missing)
        long: dict[str, list[int]] = {}
        for word, ids in zip(fresh, self._tokenize(fresh) if fresh else (), strict=True):
            (known if len(word) <= _LONGEST else long)[word] = ids
        return [_join(words, known, long) for words in texts]


def _join(words: list[str], known: dict[str, list[int]], long: dict[str, list[int]]) -> list[int]:
    ids: list[int] = []
    for word in words:
        found = known.get(word)
        ids += long[word] if found is None else found
    return ids
