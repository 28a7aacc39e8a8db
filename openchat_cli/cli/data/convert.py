"""`openchat data convert`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_cli.cli.data.options import (
    CompatOption,
    ContextOption,
    FolderArgument,
    ModelPathOption,
    RatioOption,
    RowsArgument,
    SeedOption,
    SplitFlag,
)
from openchat_cli.cli.options import (
    ForceFlag,
    JsonFlag,
    ModelFileOption,
    ModelTypeOption,
    QuietFlag,
)
from openchat_cli.cli.terminal import Terminal, confirm
from openchat_cli.core.errors import UsageError
from openchat_cli.core.progress import Progress
from openchat_cli.data.settings import ConvertSettings

if TYPE_CHECKING:
    from openchat_cli.data.convert import ConvertSummary


def convert(
    input_: RowsArgument,
    output: FolderArgument,
    model_type: ModelTypeOption = ConvertSettings.model_type,
    model_path: ModelPathOption = ConvertSettings.model_path,
    model_file: ModelFileOption = ConvertSettings.model_file,
    eval_ratio: RatioOption = ConvertSettings.eval_ratio,
    seed: SeedOption = ConvertSettings.seed,
    context: ContextOption = ConvertSettings.context,
    compat: CompatOption = ConvertSettings.compat,
    split: SplitFlag = ConvertSettings.split,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Turn conversations into the token dataset of a model type.

    \b
    openchat data convert out/ out/ --model-path prepared/
    openchat data filter out/ - | openchat data convert - out/ --model-path prepared/
    """
    with Terminal("data convert", json_output=json_, quiet=quiet) as terminal:
        from openchat_cli.data.convert import convert as work

        settings = ConvertSettings(
            input_,
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
        summary = work(with_tokenizer(settings, terminal.progress), progress=terminal.progress)
        tell_converted(terminal, summary)
        terminal.done(
            outputs=summary.outputs,
            counts=dataset_counts(summary),
            next_command=train_command(settings),
        )


def dataset_counts(summary: ConvertSummary) -> dict[str, int]:
    return {
        "read": summary.read,
        "train": summary.train,
        "eval": summary.eval,
        "dropped": summary.dropped,
        "truncated": summary.truncated,
        "cut": summary.cut,
        "pieces": summary.pieces,
        "tokens": summary.tokens,
        "supervised": summary.supervised,
    }


def tell_converted(terminal: Terminal, summary: ConvertSummary) -> None:
    terminal.note(
        f"{summary.model_type}: {summary.train} for training, {summary.eval} held out, "
        f"{summary.tokens} tokens ({summary.supervised} to learn), {summary.truncated} truncated"
    )
    if summary.cut:
        terminal.note(f"{summary.cut} conversations were cut at turns into {summary.pieces} pieces")
    if summary.dropped:
        terminal.progress.warn(
            f"{summary.dropped} conversations or pieces have nothing to learn within the context"
        )


def with_tokenizer(settings: ConvertSettings, progress: Progress) -> ConvertSettings:
    """The settings with a model path: the one given, else the base model's tokeniser by its name.

    A download is announced, and asked for on a terminal.
    """
    if settings.model_path is not None:
        return settings
    from openchat_cli.core.tokens import resolve_type
    from openchat_cli.model import hub

    kind = resolve_type(settings.model_type, model_file=settings.model_file)
    base = Path(kind.base)
    folder = hub.find(base, tokenizer_only=True)
    if folder is None:
        progress.note(f"no --model-path: looking for the tokeniser of {kind.base} on the hub")
        download = hub.plan(base, tokenizer_only=True)
        question = f"Download the tokeniser of {kind.base} ({download.size / 1e6:.1f} MB)?"
        asked = sys.stdin.isatty() and sys.stderr.isatty()
        if asked and not confirm(question):
            raise UsageError("no tokeniser", "give a model's folder with --model-path")
        folder = hub.fetch(download, progress=progress)
    return dataclasses.replace(settings, model_type=kind.name, model_path=folder)


def train_command(settings: ConvertSettings) -> list[str | Path]:
    model = settings.model_path or Path("MODEL")
    command: list[str | Path] = ["openchat", "train", "--model-path", model]
    return [*command, "--data-path", settings.output, "--save-path", "SAVE"]
