"""`openchat data filter`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from openchat_cli.cli.data.filter_options import (
    IdsOption,
    LangOption,
    MaxCharsOption,
    MaxTurnsOption,
    MinCharsOption,
    MinTurnsOption,
    ModelsOption,
    SampleOption,
    WhereOption,
)
from openchat_cli.cli.data.options import RowsArgument, RowsOutArgument
from openchat_cli.cli.options import ForceFlag, JsonFlag, QuietFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.jsonl import STDIO
from openchat_cli.data.settings import FilterSettings

if TYPE_CHECKING:
    from openchat_cli.data.filter import FilterSummary


def filter_(
    input_: RowsArgument,
    output: RowsOutArgument,
    model: ModelsOption = None,
    lang: LangOption = None,
    min_turns: MinTurnsOption = FilterSettings.min_turns,
    max_turns: MaxTurnsOption = FilterSettings.max_turns,
    min_chars: MinCharsOption = FilterSettings.min_chars,
    max_chars: MaxCharsOption = FilterSettings.max_chars,
    where: WhereOption = None,
    ids: IdsOption = FilterSettings.ids,
    sample: SampleOption = FilterSettings.sample,
    seed: Annotated[
        int, typer.Option("--seed", help="Which conversations the sample takes.")
    ] = FilterSettings.seed,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Keep the conversations of one model, of some languages, lengths or ids, or a sample.

    \b
    openchat data filter out/ out/ --model GPT-4
    openchat data clean pages/ - | openchat data filter - out/ --lang en,de
    """
    settings = FilterSettings(
        input_,
        output,
        ids=ids,
        model=tuple(model or ()),
        min_turns=min_turns,
        max_turns=max_turns,
        min_chars=min_chars,
        max_chars=max_chars,
        lang=tuple(lang or ()),
        where=tuple(where or ()),
        sample=sample,
        seed=seed,
        force=force,
    )
    to_stdout = output == STDIO
    with Terminal(
        "data filter", json_output=json_, quiet=quiet, data_on_stdout=to_stdout
    ) as terminal:
        from openchat_cli.data.filter import filter_rows

        summary = filter_rows(settings, progress=terminal.progress)
        tell_filtered(terminal, settings, summary)
        command = ["openchat", "data", "convert", str(output), str(output), "--model-path", "MODEL"]
        terminal.done(
            outputs=() if to_stdout else summary.outputs,
            counts=filter_counts(summary),
            next_command=None if to_stdout else command,
        )


def filter_counts(summary: FilterSummary) -> dict[str, object]:
    return {
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "models": dict(summary.models),
        "languages": dict(summary.languages),
    }


def tell_filtered(terminal: Terminal, settings: FilterSettings, summary: FilterSummary) -> None:
    """The table of what each criterion dropped, and which models and languages there are."""
    from openchat_cli.data.criteria import models_of

    asked = {"model": " or ".join(models_of(settings)), "lang": " or ".join(settings.lang)}
    for name in ("min_turns", "max_turns", "min_chars", "max_chars", "ids", "sample"):
        asked[name.replace("_", "-")] = str(getattr(settings, name))
    rows = [(name, count, asked.get(name, "")) for name, count in summary.dropped.items()]
    ends = [("kept", summary.kept, ""), ("read", summary.read, "kept and dropped together")]
    terminal.table("filtered", ("dropped by", "count", "asked for"), [*rows, *ends])
    for what, found in (("models", summary.models), ("languages", summary.languages)):
        if found:
            shown = ", ".join(f"{name} {count}" for name, count in found.most_common(12))
            more = f" and {len(found) - 12} more" if len(found) > 12 else ""
            terminal.note(f"{what} looked at: {shown}{more}")
