"""`data clean`: raw chats to conversations, with a reason for everything that is left out."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.data import converters, executors, near, shards, sources
from openchat_cli.data.ledger import CleanSummary, Ledger, report
from openchat_cli.data.overview import Overview
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.shards import Store
from openchat_cli.data.worker import Item, Verdict, rules_of
from openchat_cli.data.workplace import Workplace

CONVERSATIONS = "conversations.jsonl"
DROPPED = "dropped.jsonl"
REPORT = "clean.report.json"
PAGE = "clean.report.html"


def clean(
    settings: CleanSettings, *, place: Workplace | None = None, progress: Progress = SILENT
) -> CleanSummary:
    """Clean every conversation under `settings.input`.

    Writes conversations.jsonl, dropped.jsonl and clean.report.json into the output folder, whole or
    not at all, the same bytes for any number of workers and any executor; conversations.jsonl comes
    last. A run that was ended is gone on with. Memory holds a digest and an id for each kept
    conversation, and nothing else that grows.

    `place` is the output folder of a longer run, which has claimed it and will finish it.
    """
    _check(settings)
    page = settings.report == "html"
    outputs = outputs_of(settings.output, page=page)
    summary = CleanSummary(outputs=outputs, overview=Overview(sampling=page))
    found = sources.items(settings.input, without=set(summary.outputs))
    with contextlib.ExitStack() as stack:
        items = stack.enter_context(contextlib.closing(_counted(found, summary)))
        first = next(items, None)
        if first is None:
            raise InputError(
                f"{settings.input}: holds no pages and no dumps",
                "pages end in .html, dumps in .json or .jsonl, archives in .zip or .tar",
            )
        own = None
        if place is None and settings.output != jsonl.STDIO:
            own = place = stack.enter_context(Workplace(settings.output, progress))
            own.claim([settings.output / CONVERSATIONS], force=settings.force)
            own.begin(summary.outputs)
        rules = rules_of(settings)
        store = place.store if place else None
        executor = stack.enter_context(executors.start(settings, rules, progress))
        cut = shards.cut(itertools.chain([first], items), rules)
        task = progress.task("clean", sources.pages_in(settings.input), "pages")
        with task:
            verdicts = _told(shards.verdicts(cut, executor, store), task, store)
            _write(settings, summary, verdicts, task.advance)
        if store is not None:
            summary.shards, summary.reused = store.added + store.reused, store.reused
        if own is not None:
            own.finish()
    return summary


def _check(settings: CleanSettings) -> None:
    if settings.workers is not None and settings.workers < 1:
        raise UsageError("--workers must be at least 1")
    if settings.report == "html" and settings.output == jsonl.STDIO:
        raise UsageError("--report html needs a folder to write to", "give OUT a folder's name")
    converters.check(settings.converter)
    near.check(settings.near_dup)
    executors.check(settings)


def outputs_of(output: Path, *, page: bool = False) -> tuple[Path, ...]:
    """The files that cleaning writes; `page`: also the report as HTML."""
    files = tuple(path for path in _places(output) if path)
    return (*files, output / PAGE) if page else files


def _places(output: Path) -> tuple[Path, Path | None, Path | None]:
    """Where conversations, dropped pages and the report go; stdout takes the first alone."""
    if output == jsonl.STDIO:
        return jsonl.STDIO, None, None
    return output / CONVERSATIONS, output / DROPPED, output / REPORT


def _write(
    settings: CleanSettings,
    summary: CleanSummary,
    verdicts: Iterator[Verdict],
    advance: Callable[[], None],
) -> None:
    """The outputs; a kill between them is mended by the next run, which has OUT/.clean to go by."""
    kept_path, dropped_path, report_path = _places(settings.output)
    with jsonl.atomic_output(kept_path) as kept:
        with _optional(dropped_path) as dropped:
            ledger = Ledger(summary, kept, dropped, near_dup=settings.near_dup)
            ledger.write(verdicts, advance)
        if report_path:
            jsonl.write_json(report_path, report(settings, summary))
            _write_page(settings, summary, settings.output / PAGE)


def _write_page(settings: CleanSettings, summary: CleanSummary, path: Path) -> None:
    if settings.report == "html":
        from openchat_cli.data.clean_page import clean_page

        jsonl.write_text(path, clean_page(settings, summary))
    else:
        # What an earlier run left would tell of other conversations.
        path.unlink(missing_ok=True)


def _optional(path: Path | None) -> AbstractContextManager[BinaryIO | None]:
    return jsonl.atomic_output(path) if path else contextlib.nullcontext()


def _told(found: Iterator[list[Verdict]], task: Task, store: Store | None) -> Iterator[Verdict]:
    """The verdicts one by one, with the pace shown."""
    began = time.monotonic()
    done = 0
    for verdicts in found:
        yield from verdicts
        done += len(verdicts)
        detail = f"{done / (time.monotonic() - began):,.0f}/s"
        if store is not None and store.reused:
            detail += f", {store.reused} shards reused"
        task.update(detail=detail)


def _counted(items: Iterator[Item], summary: CleanSummary) -> Generator[Item, None, None]:
    for item in items:
        if item.kind == sources.IGNORED:
            summary.ignored += 1
        else:
            summary.read += 1
            yield item
