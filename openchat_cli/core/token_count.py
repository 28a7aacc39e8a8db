"""How many tokens OpenAI's models count in a text, without a network."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path


def token_counter(model: str) -> tuple[Callable[[str], float], str]:
    """How to count a model's tokens here, and the name of the way.

    tiktoken downloads its vocabulary on first use, so it counts only where that is on the disk
    already; else an estimate by words.
    """
    older = re.match(r"gpt-4(?:$|-)|gpt-3\.5|text-embedding-", model)
    name = "cl100k_base" if older else "o200k_base"
    if _cached(name):
        import tiktoken

        encoding = tiktoken.get_encoding(name)
        return lambda text: len(encoding.encode(text, disallowed_special=())), f"tiktoken {name}"
    return lambda text: estimate_tokens(text, name), "an estimate"


def _cached(name: str) -> bool:
    """Whether tiktoken has a vocabulary at hand (its own rule for the place and the name)."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":
        return False
    place = Path(folder) if folder else Path(tempfile.gettempdir()) / "data-gym-cache"
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    return (place / hashlib.sha1(url.encode()).hexdigest()).is_file()


# Runs of letters, of digits, of punctuation, line ends, and other scripts' characters one by one.
_PIECES = re.compile(
    r"(?P<word>[A-Za-z]+)|(?P<digits>\d{1,3})|(?P<newline>\s*\n\s*)|(?P<gap>\s+)"
    r"|(?P<sign>[!-/:-@\[-`{-~]+)|(?P<letters>[\u00c0-\u024f\u0370-\u06ff]+)|(?P<other>.)"
)
# Tokens that a piece takes, and each further character of it; fitted by least squares to counts by
# the vocabularies themselves over answers, reviews and conversations (see docs/evaluation.md).
_WEIGHTS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "o200k_base": {
        "word": (0.965, 0.2),  # beyond eight letters
        "digits": (1.56, 0.0),  # the space before them is a token of its own
        "newline": (1.03, 0.0),
        "sign": (0.76, 0.2),
        "letters": (1.88, 0.02),
        "other": (0.75, 0.0),
    },
    "cl100k_base": {
        "word": (1.0, 0.17),
        "digits": (1.63, 0.0),
        "newline": (1.07, 0.0),
        "sign": (0.68, 0.15),
        "letters": (2.8, 0.17),
        "other": (1.17, 0.0),
    },
}
_WIDE_GAP = 2.0  # tokens of several spaces in a row; a single space belongs to what follows it


def estimate_tokens(text: str, vocabulary: str = "o200k_base") -> float:
    """About how many tokens a text has in OpenAI's vocabularies, without them at hand."""
    weights = _WEIGHTS[vocabulary]
    total = 0.0
    for found in _PIECES.finditer(text):
        kind, size = str(found.lastgroup), found.end() - found.start()
        if kind == "gap":
            total += _WIDE_GAP if size > 1 else 0.0
        else:
            first, further = weights[kind]
            total += first + further * max(0, size - (8 if kind == "word" else 1))
    return total
