"""`data filter`: the conversations that one model answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.core.records import Conversation
from openchat_cli.data import models
from openchat_cli.data.clean import CONVERSATIONS
from openchat_cli.data.settings import FilterSettings

FILTERED = "filtered.jsonl"
REPORT = "filter.report.json"
NO_MODEL = "(none)"  # how a conversation without a label is listed


@dataclass
class FilterSummary:
    """How many were read and kept, and the models of all that were read."""

    read: int = 0
    kept: int = 0
    models: Counter[str] = field(default_factory=Counter)
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
    """Write the rows of `settings.model` to filtered.jsonl, with a report beside it.

    Raises InputError naming the models that are there when no row matches.
    """
    source = rows_file(settings.input, CONVERSATIONS)
    target, *reports = outputs_of(settings.output)
    summary = FilterSummary(outputs=(target, *reports))
    rows = records.read(source, Conversation)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: holds no conversations")
    jsonl.claim(summary.outputs, force=settings.force)
    with jsonl.atomic_output(target) as stream, progress.task("filter", unit="rows") as task:
        for row in _matching(settings.model, first, rows, summary, task):
            stream.write(jsonl.dumps(row.to_row()).encode() + b"\n")
        if not summary.kept:
            raise _nothing(source, settings.model, summary.models)
    for report in reports:
        jsonl.write_json(report, _report(settings, summary))
    return summary


def _matching(
    model: str,
    first: Conversation,
    rest: Iterator[Conversation],
    summary: FilterSummary,
    task: Task,
) -> Iterator[Conversation]:
    wanted = None if model.strip().casefold() == models.ANY else models.folded(model)
    row: Conversation | None = first
    while row is not None:
        summary.read += 1
        summary.models[NO_MODEL if row.model is None else models.plain(row.model)] += 1
        if wanted is None or (row.model is not None and models.folded(row.model) == wanted):
            summary.kept += 1
            yield row
        task.advance()
        row = next(rest, None)


def _nothing(source: Path, model: str, found: Counter[str]) -> InputError:
    listing = ", ".join(f"{name} ({count})" for name, count in found.most_common(12))
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return InputError(
        f"{source}: no conversation with model '{model}'; there are {listing}{more}",
        "name one of them with --model, or take all with --model any",
    )


def _report(settings: FilterSettings, summary: FilterSummary) -> dict[str, object]:
    return {
        "kind": "filter_report",
        "version": 1,
        "model": settings.model,
        "read": summary.read,
        "kept": summary.kept,
        "models": dict(summary.models.most_common()),
    }
