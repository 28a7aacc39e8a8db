"""The books of `data clean`: rows kept and dropped, duplicates found, everything counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from openchat_cli.core import jsonl
from openchat_cli.core.records import Dropped
from openchat_cli.data import models
from openchat_cli.data.candidates import REASONS
from openchat_cli.data.near import Index
from openchat_cli.data.overview import Overview
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.worker import Verdict

# What is done to conversations that are kept, in the words of the rules' notes.
CHANGES = ("leading_gpt", "trailing_human", "surrogates", "empty_system", "new_id")


class NearPair(NamedTuple):
    """A near duplicate: the ids of the kept and of the dropped one, where that was, how similar."""

    kept_id: str
    dropped_id: str
    source: str
    where: str
    similarity: float


@dataclass
class CleanSummary:
    """What became of every candidate: `read` = `kept` + the sum of `reasons`."""

    read: int = 0
    kept: int = 0
    ignored: int = 0  # files that can't hold conversations
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    blocked_dropped: Counter[str] = field(default_factory=Counter)  # by word
    blocked_kept: Counter[str] = field(default_factory=Counter)
    near: list[NearPair] = field(default_factory=list)
    overview: Overview = field(default_factory=Overview)
    outputs: tuple[Path, ...] = ()
    shards: int = 0  # pieces of the input; of those, `reused` were finished by a run before
    reused: int = 0

    @property
    def dropped(self) -> int:
        """How many were left out."""
        return sum(self.reasons.values())


class Ledger:
    """Writes rows, finds duplicates, counts; the first of two in the order of the input is kept.

    Memory holds a digest and an id for each kept conversation, and its signature where `near_dup`
    asks for near duplicates.
    """

    def __init__(
        self,
        summary: CleanSummary,
        kept: BinaryIO,
        dropped: BinaryIO | None,
        *,
        near_dup: float | None = None,
    ) -> None:
        self._summary, self._kept, self._dropped = summary, kept, dropped
        self._seen: dict[bytes, str] = {}
        self._ids: set[str] = set()
        self._index = None if near_dup is None else Index(near_dup)

    def write(self, verdicts: Iterator[Verdict], advance: Callable[[], None]) -> None:
        for verdict in verdicts:
            if verdict.reason is not None:
                self._drop(verdict, verdict.reason)
            elif verdict.digest in self._seen:
                self._drop(verdict, "duplicate", self._seen[verdict.digest])
            elif not self._is_near(verdict):
                self._keep(verdict)
            advance()

    def _is_near(self, verdict: Verdict) -> bool:
        """Whether an earlier one is as similar as that; it is dropped then."""
        found = None if self._index is None else self._index.find(verdict.signature)
        if found is None:
            return False
        kept_id, similarity = found
        similarity = round(similarity, 3)
        pair = NearPair(kept_id, verdict.id or "", verdict.source, verdict.where, similarity)
        self._summary.near.append(pair)
        self._drop(verdict, "near_duplicate", kept_id, f"similarity {similarity}")
        return True

    def _keep(self, verdict: Verdict) -> None:
        verdict = self._with_own_id(verdict)
        name = verdict.id or ""
        self._seen[verdict.digest] = name
        self._ids.add(name)
        if self._index is not None:
            self._index.add(name, verdict.signature)
        self._kept.write(verdict.line)
        self._summary.kept += 1
        self._summary.notes.update(verdict.notes)
        if verdict.model is not None:
            self._summary.models[models.plain(verdict.model)] += 1
        if verdict.blocked is not None:
            self._summary.blocked_kept[verdict.blocked] += 1
        self._summary.overview.kept(verdict)

    def _with_own_id(self, verdict: Verdict) -> Verdict:
        """The same; where another conversation has its id, with the hash of its content as id."""
        if verdict.id not in self._ids:
            return verdict
        name = verdict.digest.hex()
        while name in self._ids:
            name += "-"
        line = jsonl.dumps({**json.loads(verdict.line), "id": name}).encode() + b"\n"
        return verdict._replace(id=name, line=line, notes=(*verdict.notes, "new_id"))

    def _drop(
        self, verdict: Verdict, reason: str, kept_id: str | None = None, detail: str = ""
    ) -> None:
        self._summary.reasons[reason] += 1
        if verdict.reason == "blocked_word" and verdict.blocked is not None:
            self._summary.blocked_dropped[verdict.blocked] += 1
        row = Dropped(
            verdict.id, verdict.source, verdict.where, reason, kept_id, detail or verdict.detail
        )
        self._summary.overview.dropped(row, verdict)
        if self._dropped is not None:
            self._dropped.write(jsonl.dumps(row.to_row()).encode() + b"\n")


def report(settings: CleanSettings, summary: CleanSummary) -> dict[str, Any]:
    """clean.report.json: `read` is `kept` and `dropped`, which is the sum of `reasons`."""
    near = None
    if settings.near_dup is not None:
        near = {"threshold": settings.near_dup, "pairs": [pair._asdict() for pair in summary.near]}
    overview = summary.overview
    return {
        "kind": "clean_report",
        "version": 1,
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "reasons": by_reason(summary),
        "ignored_files": summary.ignored,
        "changed": {code: summary.notes[code] for code in CHANGES},
        "empty_questions": summary.notes["empty_question"],
        "models": dict(summary.models.most_common()),
        "models_missing": summary.notes["no_model"],
        "models_not_credible": summary.notes["odd_model"],
        "lengths": {
            "turns": overview.turns.to_json(),
            "characters": overview.characters.to_json(),
            "question_characters": overview.questions.to_json(),
            "answer_characters": overview.answers.to_json(),
        },
        "near_duplicates": near,
        "converter": settings.converter,
        "blocked_words": list(settings.blocked_words),
        "blocked_dropped": dict(summary.blocked_dropped.most_common()),
        "blocked_kept": dict(summary.blocked_kept.most_common()),
    }


def by_reason(summary: CleanSummary) -> dict[str, int]:
    """How many were dropped for each reason that was met, in the order of the rules."""
    return {code: summary.reasons[code] for code in REASONS if summary.reasons[code]}
