"""`data run`: clean, filter and convert, for one model type or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openchat_cli.core import jsonl
from openchat_cli.core.errors import UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.tokens import resolve_type
from openchat_cli.data.clean import CONVERSATIONS, clean
from openchat_cli.data.clean import outputs_of as clean_outputs
from openchat_cli.data.convert import ConvertSummary, convert
from openchat_cli.data.convert import outputs_of as convert_outputs
from openchat_cli.data.criteria import check
from openchat_cli.data.filter import FilterSummary, filter_rows
from openchat_cli.data.filter import outputs_of as filter_outputs
from openchat_cli.data.ledger import CleanSummary
from openchat_cli.data.settings import CleanSettings, ConvertSettings, FilterSettings
from openchat_cli.data.workplace import Workplace


@dataclass
class RunSummary:
    """The summaries of the steps, in their order."""

    clean: CleanSummary
    filter: FilterSummary
    convert: list[ConvertSummary]


def run(
    settings: CleanSettings,
    kept: FilterSettings,
    targets: Sequence[ConvertSettings],
    *,
    cleaned: Callable[[CleanSummary], None] = lambda summary: None,
    filtered: Callable[[FilterSummary], None] = lambda summary: None,
    progress: Progress = SILENT,
) -> RunSummary:
    """The three steps in one folder: each target's input and output are the clean step's output.

    `cleaned` and `filtered` are told of a step's summary before the next begins, and may raise.
    Finished shards of cleaning are kept until the last step is done, for a run after one that was
    ended.
    """
    folder = settings.output
    if folder == jsonl.STDIO:
        raise UsageError("data run writes several files: OUT must be a folder")
    check(dataclasses.replace(kept, input=settings.input))
    wanted = [folder / CONVERSATIONS, *filter_outputs(folder)]
    for target in targets:
        kind = resolve_type(
            target.model_type, model_path=target.model_path, model_file=target.model_file
        )
        wanted += convert_outputs(folder, kind)
    with Workplace(folder, progress) as place:
        # What would be refused at the last step is refused before the first.
        place.claim(wanted, force=settings.force)
        place.begin([*clean_outputs(folder, page=settings.report == "html"), *wanted])
        first = clean(settings, place=place, progress=progress)
        cleaned(first)
        step = dataclasses.replace(kept, input=folder, output=folder, force=True)
        second = filter_rows(step, progress=progress)
        filtered(second)
        third = [
            convert(
                dataclasses.replace(target, input=folder, output=folder, force=True),
                progress=progress,
            )
            for target in targets
        ]
        place.finish()
    return RunSummary(first, second, third)
