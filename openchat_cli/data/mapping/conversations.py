"""The conversations of a map: read twice, so that only what is shown of each is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError
from openchat_cli.core.progress import Progress
from openchat_cli.core.records import Conversation
from openchat_cli.data import languages, models
from openchat_cli.data.embedding.text import Fingerprint, text_of

_TITLE = 120  # characters
_NAMED_BY = 4000  # characters of a conversation that name its cluster
_MOST_LABEL = 80  # characters of a model's or a language's name

Turn = tuple[str, str]  # role, text


@dataclass
class Facts:
    """What is kept of every conversation that has a vector, in the order of the vectors."""

    ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    models: list[str | None] = field(default_factory=list)
    languages: list[str | None] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # characters of all messages
    texts: list[str] = field(default_factory=list)  # what clusters are named by


class Conversations:
    """The rows of one file, without those at the places in `skip`; stdin's are kept in memory."""

    def __init__(self, source: Path, skip: frozenset[int] = frozenset()) -> None:
        self.source = source
        self._skip = skip
        self._kept: list[Conversation] | None = None
        if source == jsonl.STDIO:
            self._kept = list(records.read(source, Conversation))

    def _all(self) -> Iterator[Conversation]:
        if self._kept is not None:
            return iter(self._kept)
        return records.read(self.source, Conversation)

    def __iter__(self) -> Iterator[Conversation]:
        for place, row in enumerate(self._all()):
            if place not in self._skip:
                yield row

    def fingerprint(self) -> str:
        """Of every row, also of those that are skipped."""
        passed = Fingerprint()
        for _ in passed.through(self._all()):
            pass
        return passed.value()

    def facts(self, progress: Progress) -> Facts:
        """One pass over the rows."""
        facts = Facts()
        can_detect = _can_detect()
        with progress.task("read", unit="rows") as task:
            for row in self:
                _note(facts, row, can_detect)
                task.advance()
        if not facts.ids:
            raise InputError(f"{self.source}: holds no conversations")
        return facts


def _note(facts: Facts, row: Conversation, can_detect: bool) -> None:
    text = text_of(row, _NAMED_BY)
    facts.ids.append(row.id)
    facts.titles.append(_title(row) or " ".join(text[: 4 * _TITLE].split())[:_TITLE])
    facts.models.append(None if row.model is None else models.plain(row.model)[:_MOST_LABEL])
    facts.lengths.append(sum(len(one.content) for one in row.messages))
    facts.texts.append(text)
    language = languages.known(row.language) or row.language
    if not language and can_detect:
        language = languages.of_messages(one.content for one in row.messages)
    facts.languages.append(language[:_MOST_LABEL] if language else None)


def _title(row: Conversation) -> str:
    """The beginning of what the human said first."""
    first = next((one.content for one in row.messages if one.role == "user"), "")
    return " ".join(first[: 4 * _TITLE].split())[:_TITLE]


def _can_detect() -> bool:
    """Languages that no row names are found out where the extra `data` is installed."""
    import importlib.util

    return importlib.util.find_spec("py3langid") is not None


def limit_for(lengths: Sequence[int], budget: int) -> int:
    """The most characters of one conversation so that all of them together keep the budget."""
    left, count = budget, len(lengths)
    for length in sorted(lengths):
        if length * count > left:
            return max(200, left // count)
        left -= length
        count -= 1
    return max(lengths, default=0)


def turns_of(row: Conversation, most: int) -> list[Turn]:
    """The turns up to `most` characters; the last one says how many are missing."""
    found: list[Turn] = []
    left = most
    total = sum(len(one.content) for one in row.messages)
    for message in row.messages:
        part = message.content[:left]
        left -= len(part)
        if len(part) < len(message.content) or (left == 0 and total > most):
            missing = total - most
            found.append((message.role, f"{part}\n\n[cut here: {missing:,} more characters]"))
            break
        found.append((message.role, part))
    return found
