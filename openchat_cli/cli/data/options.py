"""Options that several `data` commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from openchat_cli.data.settings import CleanSettings, Compat, Converter, Executor, ReportForm

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
ExecutorOption = Annotated[
    Executor,
    typer.Option("--executor", help="Where the work is done: processes here, or a Ray cluster."),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The Ray cluster; RAY_ADDRESS, or else a local one for this run, when absent.",
    ),
]
ConverterOption = Annotated[
    Converter, typer.Option("--converter", help="How answers in HTML become Markdown.")
]
WordOption = Annotated[
    list[str] | None,
    typer.Option(
        "--blocked-word",
        help="Drop conversations that say this, in any case; may be repeated. "
        f"When absent: {', '.join(CleanSettings.blocked_words)}.",
    ),
]
WordsOption = Annotated[
    Path | None,
    typer.Option(
        "--blocked-words",
        help="A file with one blocked word or phrase a line, # before comments; empty blocks none.",
    ),
]
KeepBlockedFlag = Annotated[
    bool,
    typer.Option("--keep-blocked", help="Only count the conversations that say a blocked word."),
]
NearOption = Annotated[
    float | None,
    typer.Option(
        "--near-dup",
        metavar="SIMILARITY",
        help="Drop conversations as similar as that to an earlier one: above 0, up to 1; "
        "0.8 is a good start.",
    ),
]
ReportOption = Annotated[
    ReportForm,
    typer.Option("--report", help="html: also write clean.report.html, a page to look at."),
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
SplitFlag = Annotated[
    bool,
    typer.Option(
        "--split",
        help="Cut conversations longer than the context between turns, rather than truncate them.",
    ),
]


def ray_address(executor: Executor, given: str | None) -> str | None:
    """The address given, else Ray's own variable where Ray is asked for."""
    return given or (os.environ.get("RAY_ADDRESS") or None if executor == "ray" else None)
