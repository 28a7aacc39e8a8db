"""`openchat data run`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from openchat_cli.cli.data.clean import blocked, counts_of, tell_cleaned
from openchat_cli.cli.data.convert import (
    dataset_counts,
    tell_converted,
    train_command,
    with_tokenizer,
)
from openchat_cli.cli.data.filter import tell_filtered
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
from openchat_cli.cli.data.options import (
    ChatsArgument,
    CompatOption,
    ContextOption,
    ConverterOption,
    ExecutorOption,
    FolderArgument,
    KeepBlockedFlag,
    ModelPathOption,
    NearOption,
    RatioOption,
    RayAddressOption,
    ReportOption,
    SeedOption,
    SplitFlag,
    WordOption,
    WordsOption,
    WorkersOption,
    ray_address,
)
from openchat_cli.cli.options import ForceFlag, JsonFlag, ModelFileOption, QuietFlag, StrictFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core import registry
from openchat_cli.data.settings import CleanSettings, ConvertSettings, FilterSettings


def run(
    input_: ChatsArgument,
    output: FolderArgument,
    model: ModelsOption = None,
    lang: LangOption = None,
    min_turns: MinTurnsOption = FilterSettings.min_turns,
    max_turns: MaxTurnsOption = FilterSettings.max_turns,
    min_chars: MinCharsOption = FilterSettings.min_chars,
    max_chars: MaxCharsOption = FilterSettings.max_chars,
    where: WhereOption = None,
    ids: IdsOption = FilterSettings.ids,
    sample: SampleOption = FilterSettings.sample,
    model_type: Annotated[
        str | None,
        typer.Option("--model-type", help="One type; all built-in ones when absent."),
    ] = ConvertSettings.model_type,
    model_path: ModelPathOption = ConvertSettings.model_path,
    model_file: ModelFileOption = ConvertSettings.model_file,
    workers: WorkersOption = CleanSettings.workers,
    converter: ConverterOption = CleanSettings.converter,
    blocked_word: WordOption = None,
    blocked_words: WordsOption = None,
    keep_blocked: KeepBlockedFlag = CleanSettings.keep_blocked,
    near_dup: NearOption = CleanSettings.near_dup,
    report: ReportOption = CleanSettings.report,
    executor: ExecutorOption = CleanSettings.executor,
    ray_address_: RayAddressOption = CleanSettings.ray_address,
    eval_ratio: RatioOption = ConvertSettings.eval_ratio,
    seed: SeedOption = ConvertSettings.seed,
    context: ContextOption = ConvertSettings.context,
    compat: CompatOption = ConvertSettings.compat,
    split: SplitFlag = ConvertSettings.split,
    strict: StrictFlag = False,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Clean, filter and convert, for one model type or for all.

    \b
    openchat data run pages/ out/ --model-path prepared/
    openchat data run chats.zip out/ --model any --model-type openchat
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
    kept = FilterSettings(
        output,
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
    base = ConvertSettings(
        output,
        output,
        model_type,
        model_path,
        model_file,
        eval_ratio,
        seed,
        context,
        compat,
        force,
        split,
    )
    with Terminal("data run", json_output=json_, quiet=quiet) as terminal:
        from openchat_cli.data.run import run as work

        types = [model_type] if model_type or model_path else list(registry.built_in())
        targets = [
            with_tokenizer(dataclasses.replace(base, model_type=name), terminal.progress)
            for name in types
        ]
        summary = work(
            settings,
            kept,
            targets,
            cleaned=lambda found: tell_cleaned(terminal, settings, found, strict=strict),
            filtered=lambda found: tell_filtered(terminal, kept, found),
            progress=terminal.progress,
        )
        for converted in summary.convert:
            tell_converted(terminal, converted)
        datasets = {found.model_type: dataset_counts(found) for found in summary.convert}
        outputs = [*summary.clean.outputs, *summary.filter.outputs]
        terminal.done(
            outputs=outputs + [path for found in summary.convert for path in found.outputs],
            counts={**counts_of(summary.clean), "filtered": summary.filter.kept, **datasets},
            next_command=train_command(targets[0]),
        )
