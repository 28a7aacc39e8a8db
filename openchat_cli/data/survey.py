"""Who answered and in which languages: what a dataset card says of the conversations."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from openchat_cli.core.errors import MissingExtraError
from openchat_cli.core.records import Conversation, Message
from openchat_cli.data import languages

_LABELS = 100  # distinct ones that are counted apart
_OTHERS = "(others)"
_SAMPLE = 300  # conversations whose language is looked at
_CHARACTERS = 400  # of each
_CODE = re.compile(r"[a-z]{2,3}")


@dataclass
class Survey:
    """Counts over the conversations of a dataset; what it holds does not grow with them.

    A row's own `language` is counted. Of the rows without one those with the lowest rank are looked
    at, which makes a sample that depends on neither order nor chance.
    """

    models: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0
    _sample: list[tuple[int, int, str]] = field(default_factory=list)  # a heap, highest rank first

    def add(self, row: Conversation, rank: int) -> None:
        """One conversation that was kept."""
        _count(self.models, row.model or "(none)")
        language = languages.known(row.language) or row.language
        if language is not None and _CODE.fullmatch(language):
            _count(self.given, language)
            return
        self.unlabelled += 1
        if len(self._sample) < _SAMPLE:
            heapq.heappush(self._sample, (-rank, self.unlabelled, _head(row.messages)))
        elif -rank > self._sample[0][0]:
            heapq.heapreplace(self._sample, (-rank, self.unlabelled, _head(row.messages)))

    def to_json(self) -> dict[str, Any]:
        """For the manifest; `detected` is null where the extra that detects is not installed."""
        return {
            "models": _ordered(self.models),
            "languages": {
                "given": _ordered(self.given),
                "unlabelled": self.unlabelled,
                "detected": self._detect(),
            },
        }

    def _detect(self) -> dict[str, int] | None:
        found: Counter[str] = Counter()
        try:
            for _, _, text in self._sample:
                found[languages.detect(text) or "(none)"] += 1
        except MissingExtraError:
            return None
        return _ordered(found)


def _count(counter: Counter[str], label: str) -> None:
    known = label in counter or len(counter) < _LABELS
    counter[label if known else _OTHERS] += 1


def _ordered(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _head(messages: Sequence[Message]) -> str:
    half = _CHARACTERS // 2
    return " ".join(message.content[:half] for message in messages[:4])[:_CHARACTERS]
