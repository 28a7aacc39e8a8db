"""`data clean`: raw chats to conversations, with a reason for everything that is left out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from pathlib import Path

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.data import converters, near, sources
from openchat_cli.data.ledger import CleanSummary, Ledger, report
from openchat_cli.data.pool import Pool, cores
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.overview import Overview
from openchat_cli.data.worker import Item, Verdict, rules_of, work

CONVERSATIONS = "conversations.jsonl"
DROPPED = "dropped.jsonl"
REPORT = "clean.report.json"
PAGE = "clean.report.html"

# Starting a child costs more than cleaning this many candidates.
_FEW = 256


def clean(settings: CleanSettings, *, progress: Progress = SILENT) -> CleanSummary:
    """Clean every conversation under `settings.input`.

    Writes conversations.jsonl, dropped.jsonl and clean.report.json into the output folder, whole or
    not at all, the same bytes for any number of workers. Memory holds a digest and an id for each
    kept conversation, and nothing else that grows.
    """
    if settings.workers is not None and settings.workers < 1:
        raise UsageError("--workers must be at least 1")
    converters.check(settings.converter)
    near.check(settings.near_dup)
    page = settings.report == "html"
    if page and settings.output == jsonl.STDIO:
        raise UsageError("--report html needs a folder to write to", "give OUT a folder's name")
    summary = CleanSummary(overview=Overview(sampling=page))
    kept_path, dropped_path, report_path = _places(settings.output)
    summary.outputs = outputs_of(settings.output, page=page)
    with contextlib.ExitStack() as stack:
        verdicts = stack.enter_context(contextlib.closing(_verdicts(settings, summary)))
        first = next(verdicts, None)
        if first is None:
            raise InputError(
                f"{settings.input}: holds no pages and no dumps",
                "pages end in .html, dumps in .json or .jsonl, archives in .zip or .tar",
            )
        jsonl.claim(summary.outputs, force=settings.force)
        kept = stack.enter_context(jsonl.atomic_output(kept_path))
        dropped = stack.enter_context(jsonl.atomic_output(dropped_path)) if dropped_path else None
        total = sources.pages_in(settings.input)
        with progress.task("clean", total, "pages") as task:
            ledger = Ledger(summary, kept, dropped, near_dup=settings.near_dup)
            ledger.write(itertools.chain([first], verdicts), task.advance)
    if report_path:
        jsonl.write_json(report_path, report(settings, summary))
    if page:
        from openchat_cli.data.clean_page import clean_page

        jsonl.write_text(settings.output / PAGE, clean_page(settings, summary))
    elif report_path:
        # Left over from an earlier run that --force replaces: it would tell of other conversations.
        (settings.output / PAGE).unlink(missing_ok=True)
    return summary


def outputs_of(output: Path, *, page: bool = False) -> tuple[Path, ...]:
    """The files that cleaning writes; `page`: also the report as HTML."""
    files = tuple(path for path in _places(output) if path)
    return (*files, output / PAGE) if page else files


def _places(output: Path) -> tuple[Path, Path | None, Path | None]:
    """Where conversations, dropped pages and the report go; stdout takes the first alone."""
    if output == jsonl.STDIO:
        return jsonl.STDIO, None, None
    return output / CONVERSATIONS, output / DROPPED, output / REPORT


def _verdicts(settings: CleanSettings, summary: CleanSummary) -> Generator[Verdict, None, None]:
    """The verdict on each candidate, in their order."""
    rules = rules_of(settings)
    batches = sources.batches(
        _counted(sources.items(settings.input, without=set(summary.outputs)), summary)
    )
    first, all_there = sources.peeked(batches, _FEW)
    workers = settings.workers or cores()
    if all_there or workers == 1:
        for batch in itertools.chain(first, batches):
            yield from work(rules, batch)
        return
    with Pool(workers, rules) as pool:
        for verdicts in pool.map(itertools.chain(first, batches)):
            yield from verdicts


def _counted(items: Iterator[Item], summary: CleanSummary) -> Iterator[Item]:
    for item in items:
        if item.kind == sources.IGNORED:
            summary.ignored += 1
        else:
            summary.read += 1
            yield item
