"""What the report shows of the conversations, gathered as they pass, in memory that is bounded.

Lengths are counted to three significant digits, so that every percentile is within a percent and a
few thousand numbers hold any data. Languages are told from the conversations whose digests are the
lowest: a sample that depends on nothing but the texts.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from openchat_cli.core.records import Dropped
from openchat_cli.data import languages
from openchat_cli.data.worker import EXCERPT, Verdict

EXAMPLES = 5  # of each reason
SAMPLED = 1000  # conversations whose language is looked at
_SOURCES = 200  # files told apart; what follows is counted together
_OTHERS = "others"
_HEAD = 2000  # characters of a sampled conversation


@dataclass
class Lengths:
    """How often each length was seen."""

    counts: Counter[int] = field(default_factory=Counter)
    total: int = 0
    largest: int = 0

    def add(self, length: int) -> None:
        """One more."""
        step = 10 ** max(0, len(str(length)) - 3)
        self.counts[length // step * step] += 1
        self.total += length
        self.largest = max(self.largest, length)

    @property
    def n(self) -> int:
        """How many were seen."""
        return sum(self.counts.values())

    def percentile(self, share: float) -> int:
        """The length that `share` of them (0 to 1) do not exceed; 0 where there are none."""
        wanted = share * self.n
        seen = 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= wanted:
                return length
        return 0

    def steps(self) -> list[tuple[int, int, int]]:
        """(from, to, count) of the lengths 0, 1, 2–3, 4–7 …, from the first to the last met."""
        found: Counter[int] = Counter()
        for length, count in self.counts.items():
            found[length.bit_length()] += count
        if not found:
            return []
        powers = range(min(found), max(found) + 1)
        return [((1 << power) // 2, max((1 << power) - 1, 0), found[power]) for power in powers]

    def to_json(self) -> dict[str, object]:
        """The figures for clean.report.json."""
        return {
            "n": self.n,
            "mean": round(self.total / self.n, 1) if self.n else 0,
            "median": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p99": self.percentile(0.99),
            "max": self.largest,
            "steps": [{"from": low, "to": high, "n": n} for low, high, n in self.steps()],
        }


class Example(NamedTuple):
    """A dropped conversation and the beginning of its text."""

    row: Dropped
    text: str


@dataclass
class Overview:
    """Lengths, examples, sources and a sample; `sampling` False leaves the sample out."""

    sampling: bool = False
    turns: Lengths = field(default_factory=Lengths)  # in each conversation
    characters: Lengths = field(default_factory=Lengths)  # in each conversation
    questions: Lengths = field(default_factory=Lengths)  # characters of each
    answers: Lengths = field(default_factory=Lengths)  # characters of each
    examples: dict[str, list[Example]] = field(default_factory=dict)
    kept_from: Counter[str] = field(default_factory=Counter)
    dropped_from: Counter[str] = field(default_factory=Counter)
    _sample: list[tuple[int, int, str | None, str]] = field(default_factory=list)

    def kept(self, verdict: Verdict) -> None:
        """A conversation that was kept."""
        self.turns.add(len(verdict.lengths))
        self.characters.add(sum(verdict.lengths))
        for index, length in enumerate(verdict.lengths):
            (self.answers if index % 2 else self.questions).add(length)
        self.kept_from[self._source(verdict.source)] += 1
        if self.sampling:
            self._maybe_sample(verdict)

    def dropped(self, row: Dropped, verdict: Verdict) -> None:
        """A conversation that was left out."""
        self.dropped_from[self._source(row.source)] += 1
        found = self.examples.setdefault(row.reason, [])
        if len(found) < EXAMPLES:
            text = verdict.excerpt
            if verdict.line:  # it passed the rules: its first question says which one it is
                _, text = _language_and_text(verdict.line, EXCERPT)
            found.append(Example(row, text))

    def languages(self) -> Counter[str]:
        """The languages of the sample, "none" where a text holds no words.

        Raises MissingExtraError where languages can't be told apart.
        """
        found: Counter[str] = Counter()
        for _, _, language, text in sorted(self._sample):
            found[language or languages.detect(text) or "none"] += 1
        return found

    def _source(self, name: str) -> str:
        """A dump by its name; pages by their folder."""
        lower = name.lower().removesuffix(".gz")
        if lower.endswith((".html", ".htm")) and "/" in name:
            name = name.rpartition("/")[0] + "/*"
        elif lower.endswith((".html", ".htm")):
            name = "*." + lower.rpartition(".")[2]
        known = name in self.kept_from or name in self.dropped_from
        if not known and len(self.kept_from) + len(self.dropped_from) >= _SOURCES:
            return _OTHERS
        return name

    def _maybe_sample(self, verdict: Verdict) -> None:
        # The heap holds the lowest digests, the largest of them first.
        rank = -int.from_bytes(verdict.digest)
        if len(self._sample) < SAMPLED:
            entry = (rank, *self._entry(verdict))
            heapq.heappush(self._sample, entry)
        elif rank > self._sample[0][0]:
            heapq.heapreplace(self._sample, (rank, *self._entry(verdict)))

    def _entry(self, verdict: Verdict) -> tuple[int, str | None, str]:
        return (self.turns.n, *_language_and_text(verdict.line, _HEAD))


def _language_and_text(line: bytes, most: int) -> tuple[str | None, str]:
    row = json.loads(line)
    texts: Sequence[str] = [one["content"] for one in row["messages"] if one["role"] != "system"]
    return row["language"], "\n".join(texts)[:most]
