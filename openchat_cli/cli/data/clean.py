"""`openchat data clean`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openchat_cli.cli.data.options import (
    ChatsArgument,
    ConverterOption,
    ExecutorOption,
    KeepBlockedFlag,
    NearOption,
    RayAddressOption,
    ReportOption,
    RowsOutArgument,
    WordOption,
    WordsOption,
    WorkersOption,
    ray_address,
)
from openchat_cli.cli.options import ForceFlag, JsonFlag, QuietFlag, StrictFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.errors import InputError, OpenChatError, PartialError
from openchat_cli.core.jsonl import STDIO
from openchat_cli.data.settings import CleanSettings

if TYPE_CHECKING:
    from openchat_cli.data.ledger import CleanSummary


def clean(
    input_: ChatsArgument,
    output: RowsOutArgument,
    workers: WorkersOption = CleanSettings.workers,
    converter: ConverterOption = CleanSettings.converter,
    blocked_word: WordOption = None,
    blocked_words: WordsOption = None,
    keep_blocked: KeepBlockedFlag = CleanSettings.keep_blocked,
    near_dup: NearOption = CleanSettings.near_dup,
    report: ReportOption = CleanSettings.report,
    executor: ExecutorOption = CleanSettings.executor,
    ray_address_: RayAddressOption = CleanSettings.ray_address,
    strict: StrictFlag = False,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Turn raw chats into conversations, with a reason for each that is left out.

    \b
    openchat data clean pages/ out/
    openchat data clean dump.jsonl - | openchat data filter - out/
    """
    words = blocked(blocked_word, blocked_words)
    address = ray_address(executor, ray_address_)
    settings = CleanSettings(
        input_,
        output,
        workers,
        converter,
        words,
        force,
        keep_blocked=keep_blocked,
        near_dup=near_dup,
        report=report,
        executor=executor,
        ray_address=address,
    )
    to_stdout = output == STDIO
    with Terminal(
        "data clean", json_output=json_, quiet=quiet, data_on_stdout=to_stdout
    ) as terminal:
        from openchat_cli.data.clean import clean as work

        summary = work(settings, progress=terminal.progress)
        tell_cleaned(terminal, settings, summary, strict=strict)
        terminal.done(
            outputs=() if to_stdout else summary.outputs,
            counts=counts_of(summary),
            next_command=None if to_stdout else _filter_command(output),
        )


def blocked(words: list[str] | None, file: Path | None) -> tuple[str, ...]:
    """The blocked words of both options; the default where neither is given."""
    if words is None and file is None:
        return CleanSettings.blocked_words
    found = list(words or ())
    if file is not None:
        try:
            lines = file.read_text("utf-8-sig").splitlines()
            found += (line for line in lines if not line.lstrip().startswith("#"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise InputError(f"{file}: can't be read ({reason})") from None
    return tuple(word.strip() for word in found if word.strip())


def counts_of(summary: CleanSummary) -> dict[str, object]:
    from openchat_cli.data.ledger import by_reason

    return {
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "reasons": by_reason(summary),
        "blocked_kept": summary.blocked_kept.total(),
        "shards": summary.shards,
        "reused": summary.reused,
    }


def tell_cleaned(
    terminal: Terminal, settings: CleanSettings, summary: CleanSummary, *, strict: bool
) -> None:
    """The table of reasons; raises where nothing was kept, or anything dropped under --strict."""
    from openchat_cli.data.candidates import REASONS

    rows = [(code, summary.reasons[code], REASONS[code]) for code in REASONS]
    rows = [row for row in rows if row[1]]
    ends = [("kept", summary.kept, ""), ("read", summary.read, "kept and dropped together")]
    terminal.table("cleaned", ("verdict", "count", "meaning"), [*rows, *ends])
    for line in _remarks(summary):
        terminal.note(line)
    if summary.kept == 0:
        where = "" if settings.output == STDIO else f", see {settings.output / 'dropped.jsonl'}"
        message = f"{settings.input}: none of {summary.read} conversations was kept"
        raise OpenChatError(message, f"the table above says why{where}")
    if summary.dropped:
        if strict:
            message = f"{summary.dropped} of {summary.read} conversations were dropped"
            raise PartialError(message, "the outputs are whole; leave --strict out to accept this")
        terminal.progress.warn(f"{summary.dropped} of {summary.read} conversations were dropped")


def _remarks(summary: CleanSummary) -> list[str]:
    """What the table does not say, where there is something to say."""
    notes = summary.notes
    counted = (
        (
            summary.reused,
            f"of {summary.shards} shards were taken from the run before, which had finished them",
        ),
        (summary.ignored, "files that hold no chats were passed by"),
        (len(summary.near), "near duplicates: clean.report.json has the pairs"),
        (summary.blocked_kept.total(), "of the kept ones say a blocked word"),
        (notes["leading_gpt"], "of the kept ones lost a first turn by gpt"),
        (notes["trailing_human"], "of the kept ones lost a last turn by human"),
        (notes["surrogates"], "of the kept ones had broken characters, now mended"),
        (notes["new_id"], "of the kept ones had the id of an earlier one, and have a new one"),
        (notes["no_model"], "of the kept ones name no model"),
        (notes["odd_model"], "of the kept ones name a model that can't be one; it was taken out"),
    )
    return [f"{count} {text}" for count, text in counted if count]


def _filter_command(folder: Path) -> list[str | Path]:
    return ["openchat", "data", "filter", folder, folder]
