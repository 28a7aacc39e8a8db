"""`data filter`: the conversations that meet every criterion, as they came."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.core.records import Conversation
from openchat_cli.data import patterns, sample
from openchat_cli.data.clean import CONVERSATIONS
from openchat_cli.data.criteria import NO_LABEL, Criterion, amount, criteria, models_of
from openchat_cli.data.entry import Entry
from openchat_cli.data.settings import FilterSettings

FILTERED = "filtered.jsonl"
REPORT = "filter.report.json"
_SAMPLE = "sample"  # the last criterion: what the sample leaves out
_LISTED = 12  # labels that an error names


@dataclass
class FilterSummary:
    """What was read, kept, and dropped by each criterion in their order; they add up.

    `models` are those of all conversations read, `languages` of those that came as far as `lang`.
    """

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    models: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    outputs: tuple[Path, ...] = ()


def outputs_of(output: Path) -> tuple[Path, ...]:
    """The rows, and a report beside them; stdout takes the rows alone."""
    return (output,) if output == jsonl.STDIO else (output / FILTERED, output / REPORT)


def rows_file(path: Path, *names: str) -> Path:
    """A rows file as it is, or the first of these names in the folder of an earlier step."""
    if path == jsonl.STDIO or not path.is_dir():
        return path
    for name in names:
        for found in (path / name, path / f"{name}.gz"):
            if found.is_file():
                return found
    expected = " or ".join(names)
    raise InputError(f"{path}: no {expected} there", "made by: openchat data clean INPUT OUT")


def filter_rows(settings: FilterSettings, *, progress: Progress = SILENT) -> FilterSummary:
    """Write the conversations that meet every criterion to filtered.jsonl, a report beside it.

    Raises InputError where none does, naming the models and languages that are there.
    """
    summary = FilterSummary(outputs=outputs_of(settings.output))
    asked, wanted = criteria(settings, summary.languages), amount(settings)
    source = rows_file(settings.input, CONVERSATIONS, FILTERED)
    target, *reports = summary.outputs
    lines = records.read_lines(source, Conversation)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{source}: holds no conversations")
    jsonl.claim(summary.outputs, force=settings.force)
    with jsonl.atomic_output(target) as stream, progress.task("filter", unit="rows") as task:
        entries = _entries(itertools.chain((first,), lines), summary, task)
        passing = _encoded(asked, entries, summary.dropped)
        folder = None if target == jsonl.STDIO else target.parent
        for line in sample.taken(passing, wanted, settings.seed, folder):
            summary.kept += 1
            stream.write(line)
        if wanted is not None:
            passed = summary.read - sum(summary.dropped.values())
            summary.dropped[_SAMPLE] = passed - summary.kept
        summary.warnings = [text for criterion in asked for text in criterion.advice()]
        if not summary.kept:
            raise _nothing(source, settings, summary)
    for text in summary.warnings:
        progress.warn(text)
    for report in reports:
        jsonl.write_json(report, _report(settings, summary))
    return summary


def _entries(
    lines: Iterable[tuple[bytes, records.Row, Conversation]], summary: FilterSummary, task: Task
) -> Iterator[Entry]:
    for line, row, conversation in lines:
        entry = Entry(line, row, conversation, conversation.language)
        summary.read += 1
        summary.models[entry.label() or NO_LABEL] += 1
        yield entry
        task.advance()


def _encoded(
    asked: Sequence[Criterion], entries: Iterator[Entry], dropped: dict[str, int]
) -> Iterator[tuple[str, bytes]]:
    """(id, line) of what meets every criterion; what each of them drops is counted."""
    dropped.update((criterion.name, 0) for criterion in asked)
    for entry in entries:
        for criterion in asked:
            if not criterion.keeps(entry):
                dropped[criterion.name] += 1
                break
        else:
            yield entry.conversation.id, entry.encoded()


def _nothing(source: Path, settings: FilterSettings, summary: FilterSummary) -> InputError:
    wanted = models_of(settings)
    if summary.dropped.get("model") == summary.read:
        asked = " or ".join(f"'{text}'" for text in wanted)
        message = f"{source}: no conversation with model {asked}; there are "
        return InputError(message + _listing(summary.models), _model_hint(wanted, summary.models))
    reasons = ", ".join(f"{name} {count}" for name, count in summary.dropped.items() if count)
    message = f"{source}: none of {summary.read} conversations was kept; dropped by: {reasons}"
    there = [
        f"{what} there: {_listing(found)}"
        for what, name, found in (
            ("models", "model", summary.models),
            ("languages", "lang", summary.languages),
        )
        if summary.dropped.get(name)
    ]
    return InputError(message, "; ".join([*summary.warnings, *there]) or None)


def _listing(found: Counter[str]) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in found.most_common(_LISTED))
    return shown + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def _model_hint(wanted: Sequence[str], found: Counter[str]) -> str:
    names = {name.casefold(): name for name in found}
    for text in filter(patterns.is_exact, wanted):
        near = difflib.get_close_matches(text.strip().casefold(), names, n=1)
        if near:
            return f"did you mean --model '{names[near[0]]}'? all of them: --model any"
    name = "name one of them with --model"
    if NO_LABEL in found:
        name += f" ({patterns.NONE} for {NO_LABEL})"
    return f"{name}, or take all with --model any"


def _report(settings: FilterSettings, summary: FilterSummary) -> dict[str, object]:
    return {
        "kind": "filter_report",
        "version": 1,
        "settings": {
            "ids": None if settings.ids is None else str(settings.ids),
            "model": list(models_of(settings)),
            "min_turns": settings.min_turns,
            "max_turns": settings.max_turns,
            "min_chars": settings.min_chars,
            "max_chars": settings.max_chars,
            "lang": list(settings.lang),
            "where": list(settings.where),
            "sample": settings.sample,
            "seed": settings.seed,
        },
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "models": dict(summary.models.most_common()),
        "languages": dict(summary.languages.most_common()),
        "warnings": summary.warnings,
    }
