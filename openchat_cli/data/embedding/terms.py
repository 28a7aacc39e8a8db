"""Words of a text in any script: what TF-IDF counts, and what clusters are named by.

Scripts that put spaces between words give words. Chinese, Japanese and the scripts of South East
Asia, which do not, give every run of two and three characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Japanese, Chinese
    "\U00020000-\U0003ffff"
)
_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<word>(?:(?![{_UNSPACED}])[^\W\d_]){{2,40}})")
_LONGEST = 20_000  # characters looked at


def terms(text: str) -> Iterator[str]:
    """The terms of a text in its order, with repetitions; case and width do not matter."""
    for found in _RUN.finditer(unicodedata.normalize("NFKC", text[:_LONGEST]).casefold()):
        run = found[0]
        if found.lastgroup == "word":
            yield run
            continue
        for size in (2, 3):
            for start in range(len(run) - size + 1):
                yield run[start : start + size]


def is_unspaced(term: str) -> bool:
    """Whether a term is a piece of a script without spaces."""
    return _RUN.match(term) is not None and re.match(f"[{_UNSPACED}]", term) is not None
