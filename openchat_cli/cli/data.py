"""`openchat data …`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openchat_cli.cli.options import (
    ForceFlag,
    JsonFlag,
    ModelFileOption,
    ModelTypeOption,
    QuietFlag,
    StrictFlag,
)
from openchat_cli.cli.terminal import Terminal, confirm
from openchat_cli.core import registry
from openchat_cli.core.errors import InputError, OpenChatError, PartialError, UsageError
from openchat_cli.core.jsonl import STDIO
from openchat_cli.core.progress import Progress
from openchat_cli.data.settings import (
    CleanSettings,
    Compat,
    Converter,
    ConvertSettings,
    FilterSettings,
)

if TYPE_CHECKING:
    from openchat_cli.data.clean import CleanSummary
    from openchat_cli.data.convert import ConvertSummary

app = typer.Typer(no_args_is_help=True)

ChatsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        allow_dash=True,
        help="A folder, archive, page or dump of chats; - is stdin.",
    ),
]
RowsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        allow_dash=True,
        help="A file of conversations, or the folder of the step before; - is stdin.",
    ),
]
RowsOutArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", allow_dash=True, help="The folder to write to; - for the rows on stdout."
    ),
]
FolderArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write to.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Processes to use; all cores when absent.")
]
ConverterOption = Annotated[
    Converter, typer.Option("--converter", help="How answers in HTML become Markdown.")
]
WordOption = Annotated[
    list[str] | None,
    typer.Option(
        "--blocked-word",
        help="Drop conversations that say this; may be repeated. "
        f"When absent: {', '.join(CleanSettings.blocked_words)}.",
    ),
]
WordsOption = Annotated[
    Path | None,
    typer.Option("--blocked-words", help="A file with one blocked word a line; empty blocks none."),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="The model whose conversations to keep, exactly; any for all."),
]
ModelPathOption = Annotated[
    Path | None,
    typer.Option(
        "--model-path",
        help="The model's folder, for its tokeniser; from the hub when absent.",
    ),
]
RatioOption = Annotated[
    float, typer.Option("--eval-ratio", help="The share that is held out for evaluation.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Which conversations are held out.")]
ContextOption = Annotated[
    int | None,
    typer.Option("--context", help="Tokens to truncate to; the model's own context when absent."),
]
CompatOption = Annotated[
    Compat,
    typer.Option(
        "--compat",
        help="reference: StarCoder's ids as the original's slow tokeniser gave them.",
    ),
]


@app.callback()
def group() -> None:
    """Turn raw chats into a training set."""


@app.command()
def clean(
    input_: ChatsArgument,
    output: RowsOutArgument,
    workers: WorkersOption = CleanSettings.workers,
    converter: ConverterOption = CleanSettings.converter,
    blocked_word: WordOption = None,
    blocked_words: WordsOption = None,
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
    words = _blocked(blocked_word, blocked_words)
    settings = CleanSettings(input_, output, workers, converter, words, force)
    to_stdout = output == STDIO
    with Terminal(
        "data clean", json_output=json_, quiet=quiet, data_on_stdout=to_stdout
    ) as terminal:
        from openchat_cli.data.clean import clean as work

        summary = work(settings, progress=terminal.progress)
        _tell_cleaned(terminal, settings, summary, strict=strict)
        terminal.done(
            outputs=() if to_stdout else summary.outputs,
            counts=_counts(summary),
            next_command=None if to_stdout else _filter_command(output),
        )


@app.command("filter")
def filter_(
    input_: RowsArgument,
    output: RowsOutArgument,
    model: ModelOption = FilterSettings.model,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Keep the conversations of one model.

    \b
    openchat data filter out/ out/ --model GPT-4
    openchat data clean pages/ - | openchat data filter - out/ --model any
    """
    settings = FilterSettings(input_, output, model, force)
    to_stdout = output == STDIO
    with Terminal(
        "data filter", json_output=json_, quiet=quiet, data_on_stdout=to_stdout
    ) as terminal:
        from openchat_cli.data.filter import filter_rows

        summary = filter_rows(settings, progress=terminal.progress)
        terminal.note(f"{summary.kept} of {summary.read} conversations kept (--model {model})")
        command = ["openchat", "data", "convert", str(output), str(output), "--model-path", "MODEL"]
        terminal.done(
            outputs=() if to_stdout else summary.outputs,
            counts={"read": summary.read, "kept": summary.kept, "models": dict(summary.models)},
            next_command=None if to_stdout else command,
        )


@app.command()
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
        )
        summary = work(_with_tokenizer(settings, terminal.progress), progress=terminal.progress)
        _tell_converted(terminal, summary)
        terminal.done(
            outputs=summary.outputs,
            counts=_dataset_counts(summary),
            next_command=_train_command(settings),
        )


@app.command()
def run(
    input_: ChatsArgument,
    output: FolderArgument,
    model: ModelOption = FilterSettings.model,
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
    eval_ratio: RatioOption = ConvertSettings.eval_ratio,
    seed: SeedOption = ConvertSettings.seed,
    context: ContextOption = ConvertSettings.context,
    compat: CompatOption = ConvertSettings.compat,
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
    words = _blocked(blocked_word, blocked_words)
    settings = CleanSettings(input_, output, workers, converter, words, force)
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
    )
    with Terminal("data run", json_output=json_, quiet=quiet) as terminal:
        from openchat_cli.data.run import run as work

        types = [model_type] if model_type or model_path else list(registry.built_in())
        targets = [
            _with_tokenizer(dataclasses.replace(base, model_type=name), terminal.progress)
            for name in types
        ]
        summary = work(
            settings,
            model,
            targets,
            cleaned=lambda found: _tell_cleaned(terminal, settings, found, strict=strict),
            progress=terminal.progress,
        )
        for converted in summary.convert:
            _tell_converted(terminal, converted)
        datasets = {found.model_type: _dataset_counts(found) for found in summary.convert}
        outputs = [*summary.clean.outputs, *summary.filter.outputs]
        terminal.done(
            outputs=outputs + [path for found in summary.convert for path in found.outputs],
            counts={**_counts(summary.clean), "filtered": summary.filter.kept, **datasets},
            next_command=_train_command(targets[0]),
        )


# --- what the commands have in common ---


def _blocked(words: list[str] | None, file: Path | None) -> tuple[str, ...]:
    """The blocked words of both options; the default where neither is given."""
    if words is None and file is None:
        return CleanSettings.blocked_words
    found = list(words or ())
    if file is not None:
        try:
            found += file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise InputError(f"{file}: can't be read ({reason})") from None
    return tuple(word.strip() for word in found if word.strip())


def _counts(summary: CleanSummary) -> dict[str, object]:
    return {
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "reasons": dict(summary.reasons),
    }


def _dataset_counts(summary: ConvertSummary) -> dict[str, int]:
    return {
        "train": summary.train,
        "eval": summary.eval,
        "dropped": summary.dropped,
        "truncated": summary.truncated,
        "tokens": summary.tokens,
        "supervised": summary.supervised,
    }


def _tell_cleaned(
    terminal: Terminal, settings: CleanSettings, summary: CleanSummary, *, strict: bool
) -> None:
    """The table of reasons; raises where nothing was kept, or anything dropped under --strict."""
    from openchat_cli.data.candidates import REASONS

    rows = [(code, summary.reasons[code], REASONS[code]) for code in REASONS]
    rows = [row for row in rows if row[1]]
    ends = [("kept", summary.kept, ""), ("read", summary.read, "kept and dropped together")]
    terminal.table("cleaned", ("verdict", "count", "meaning"), [*rows, *ends])
    if summary.ignored:
        terminal.note(f"{summary.ignored} files that hold no chats were passed by")
    if summary.kept == 0:
        where = "" if settings.output == STDIO else f", see {settings.output / 'dropped.jsonl'}"
        message = f"{settings.input}: none of {summary.read} conversations was kept"
        raise OpenChatError(message, f"the table above says why{where}")
    if summary.dropped:
        if strict:
            message = f"{summary.dropped} of {summary.read} conversations were dropped"
            raise PartialError(message, "the outputs are whole; leave --strict out to accept this")
        terminal.progress.warn(f"{summary.dropped} of {summary.read} conversations were dropped")


def _tell_converted(terminal: Terminal, summary: ConvertSummary) -> None:
    terminal.note(
        f"{summary.model_type}: {summary.train} for training, {summary.eval} held out, "
        f"{summary.tokens} tokens ({summary.supervised} to learn), {summary.truncated} truncated"
    )
    if summary.dropped:
        terminal.progress.warn(
            f"{summary.dropped} conversations have nothing to learn within the context"
        )


def _with_tokenizer(settings: ConvertSettings, progress: Progress) -> ConvertSettings:
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


def _filter_command(folder: Path) -> list[str | Path]:
    return ["openchat", "data", "filter", folder, folder]


def _train_command(settings: ConvertSettings) -> list[str | Path]:
    model = settings.model_path or Path("MODEL")
    command: list[str | Path] = ["openchat", "train", "--model-path", model]
    return [*command, "--data-path", settings.output, "--save-path", "SAVE"]
