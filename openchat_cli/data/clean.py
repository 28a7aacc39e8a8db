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
from openchat_cli.data import converters, executors, shards, sources
from openchat_cli.data.ledger import CleanSummary, Ledger, report
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.shards import Store
from openchat_cli.data.worker import Item, Rules, Verdict
from openchat_cli.data.workplace import Workplace

CONVERSATIONS = "conversations.jsonl"
DROPPED = "dropped.jsonl"
REPORT = "clean.report.json"


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
    summary = CleanSummary(outputs=outputs_of(settings.output))
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
        rules = Rules(settings.converter, tuple(word.lower() for word in settings.blocked_words))
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
    converters.check(settings.converter)
    executors.check(settings)


def outputs_of(output: Path) -> tuple[Path, ...]:
    """The files that cleaning writes."""
    return tuple(path for path in _places(output) if path)


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
            Ledger(summary, kept, dropped).write(verdicts, advance)
        if report_path:
            jsonl.write_json(report_path, report(settings, summary))


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
