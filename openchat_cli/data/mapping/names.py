"""What a cluster is about, in the words that set it apart from the rest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from openchat_cli.data.embedding.terms import is_unspaced, terms

WORDS = 6  # of each cluster
_IN_NAME = 3
_RAREST = 0.02  # share of a cluster's conversations that must hold a word

# Characters that carry grammar and no topic: a piece of Chinese that holds one is no name.
_GRAMMAR = frozenset(
    "的了和是在与或及以被把就都也很这那其之而且于为有我你您他她它们个一不请给等使写任何会要"
)
_CHINESE = (
    "什么 如果 需要 进行 如何 怎么 因此 所以 但是 没有 还是 已经 可能 应该 "
    "通过 对于 关于 下面 包括 例如 比如 非常 更多 能够 首先 其次 最后 同时 "
    "时候 继续 内容 提供 问题 回答 提高 帮助 方式 任何 其他 根据 自己 多少 "
    "并提 信息 可用 可将 确保"
)
_ENGLISH = (
    "like want need use using used make please help write create provide following example based "
    "just good know don ll ve re isn doesn didn can won couldn wouldn shouldn wasn hasn haven aren "
    "im let new way different time sure include including also www com http https add"
)


def top_words(texts: Iterable[str], labels: Sequence[int], count: int) -> list[tuple[str, ...]]:
    """The telling words of each cluster, the most telling first.

    By the share of a cluster's texts that hold a word, times the logarithm of how much larger
    that is than the share in all other texts, times the word's rarity.
    """
    inside: list[Counter[str]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    for text, label in zip(texts, labels, strict=True):
        inside[label].update(set(terms(text)))
        sizes[label] += 1
    everywhere: Counter[str] = Counter()
    for one in inside:
        everywhere.update(one)
    stop = _stop_words()
    return [
        _best(found, size, everywhere, sum(sizes), stop)
        for found, size in zip(inside, sizes, strict=True)
    ]


def name_of(words: Sequence[str]) -> str:
    """A cluster's name."""
    return ", ".join(words[:_IN_NAME]) or "(no words)"


def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    own = f"{_CHINESE} {_ENGLISH}".split()
    return frozenset(ENGLISH_STOP_WORDS) | frozenset(own)


def _best(
    inside: Counter[str], size: int, everywhere: Counter[str], total: int, stop: frozenset[str]
) -> tuple[str, ...]:
    fewest = max(2 if size >= 5 else 1, _RAREST * size)
    scores: dict[str, float] = {}
    for word, texts in inside.items():
        if texts < fewest or word in stop or _says_nothing(word):
            continue
        share = texts / size
        rarity = math.log(1 + total / everywhere[word])
        if size == total:
            scores[word] = share * rarity
            continue
        outside = (everywhere[word] - texts + 0.5) / (total - size + 1)
        if share > outside:
            scores[word] = share * math.log(share / outside) * rarity
    chosen: list[str] = []
    for word in sorted(scores, key=lambda word: (-scores[word], word)):
        if not any(_alike(word, other) for other in chosen):
            chosen.append(word)
            if len(chosen) == WORDS:
                break
    return tuple(chosen)


def _says_nothing(word: str) -> bool:
    """Whether a piece of Chinese or Japanese is, or begins or ends with, mere grammar."""
    if not is_unspaced(word):
        return False
    return not _GRAMMAR.isdisjoint(word) or all("\u3040" <= one <= "\u309f" for one in word)


def _alike(word: str, other: str) -> bool:
    """Whether two words say the same: forms of one word, or pieces that overlap."""
    if is_unspaced(word) and is_unspaced(other):
        return not set(word).isdisjoint(other)
    short, long = sorted((word, other), key=len)
    return long.startswith(short) and len(long) - len(short) <= 3
