"""CommonMark's flanking runs: which delimiters can open emphasis, and which can close it."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def is_space(char: str) -> bool:
    """Unicode white space, or the edge of the block (an empty string)."""
    return not char or char.isspace()


def is_punctuation(char: str) -> bool:
    """ASCII punctuation, or Unicode's classes P and S."""
    if char.isascii():
        return char in PUNCTUATION
    return unicodedata.category(char)[0] in "PS"


@lru_cache(maxsize=8192)
def flanking(before: str, after: str) -> tuple[bool, bool]:
    """Whether a run of delimiters between these characters can open, and can close, emphasis.

    CommonMark's left- and right-flanking; "" is the edge of the block.
    """
    space_before, space_after = is_space(before), is_space(after)
    dull_before = not space_before and is_punctuation(before)
    dull_after = not space_after and is_punctuation(after)
    left = not space_after and (not dull_after or space_before or dull_before)
    right = not space_before and (not dull_before or space_after or dull_after)
    return left, right


@lru_cache(maxsize=8192)
def flanking_underscore(before: str, after: str) -> tuple[bool, bool]:
    """The same for `_`, which means nothing inside a word unless punctuation is beside it."""
    left, right = flanking(before, after)
    if left and right:
        return is_punctuation(before), is_punctuation(after)
    return left, right
