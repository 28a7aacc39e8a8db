"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON summary on stdout at the end.")
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
ForceFlag = Annotated[bool, typer.Option("--force", "-f", help="Replace outputs already there.")]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, with every setting; do nothing.")
]
StrictFlag = Annotated[
    bool, typer.Option("--strict", help="Exit 3 when anything was dropped or failed.")
]
ModelTypeOption = Annotated[
    str | None,
    typer.Option(
        "--model-type",
        help="openchat, openchat_8192, opencoder, or one of --model-file. "
        "Read from openchat.json or the dataset when absent.",
    ),
]
ModelFileOption = Annotated[
    Path | None,
    typer.Option("--model-file", help="A TOML file with model types of your own."),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(help="A file with the API key; else it is taken from OPENAI_API_KEY."),
]
TimeoutOption = Annotated[float, typer.Option(help="Seconds that one call may take.")]
ConcurrencyOption = Annotated[int, typer.Option(help="Calls under way at once.")]
