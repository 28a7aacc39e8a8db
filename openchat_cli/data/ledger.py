"""The books of `data clean`: rows kept and dropped, duplicates found, everything counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from openchat_cli.core import jsonl
from openchat_cli.core.records import Dropped
from openchat_cli.data import models
from openchat_cli.data.candidates import REASONS
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.worker import Verdict


@dataclass
class CleanSummary:
    """What became of every candidate: `read` = `kept` + the sum of `reasons`."""

    read: int = 0
    kept: int = 0
    ignored: int = 0  # files that can't hold conversations
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    outputs: tuple[Path, ...] = ()
    shards: int = 0  # pieces of the input; of those, `reused` were finished by a run before
    reused: int = 0

    @property
    def dropped(self) -> int:
        """How many were left out."""
        return sum(self.reasons.values())


class Ledger:
    """Writes rows, finds duplicates, counts."""

    def __init__(self, summary: CleanSummary, kept: BinaryIO, dropped: BinaryIO | None) -> None:
        self._summary, self._kept, self._dropped = summary, kept, dropped
        self._seen: dict[bytes, str] = {}

    def write(self, verdicts: Iterator[Verdict], advance: Callable[[], None]) -> None:
        for verdict in verdicts:
            if verdict.reason is not None:
                self._drop(verdict, verdict.reason)
            elif verdict.digest in self._seen:
                self._drop(verdict, "duplicate", self._seen[verdict.digest])
            else:
                self._keep(verdict)
            advance()

    def _keep(self, verdict: Verdict) -> None:
        self._seen[verdict.digest] = verdict.id or ""
        self._kept.write(verdict.line)
        self._summary.kept += 1
        self._summary.notes.update(verdict.notes)
        if verdict.model is not None:
            self._summary.models[models.plain(verdict.model)] += 1

    def _drop(self, verdict: Verdict, reason: str, kept_id: str | None = None) -> None:
        self._summary.reasons[reason] += 1
        if self._dropped is not None:
            row = Dropped(
                verdict.id, verdict.source, verdict.where, reason, kept_id, verdict.detail
            ).to_row()
            self._dropped.write(jsonl.dumps(row).encode() + b"\n")


def report(settings: CleanSettings, summary: CleanSummary) -> dict[str, Any]:
    return {
        "kind": "clean_report",
        "version": 1,
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "reasons": {code: summary.reasons[code] for code in REASONS if summary.reasons[code]},
        "ignored_files": summary.ignored,
        "changed": {
            "leading_gpt": summary.notes["leading_gpt"],
            "trailing_human": summary.notes["trailing_human"],
            "surrogates": summary.notes["surrogates"],
        },
        "models": dict(summary.models.most_common()),
        "models_missing": summary.notes["no_model"],
        "models_not_credible": summary.notes["odd_model"],
        "converter": settings.converter,
        "blocked_words": list(settings.blocked_words),
    }
