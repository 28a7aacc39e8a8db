"""Options of `data filter` that `data run` takes too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="LABEL",
        help="The label of the model that answered, in full; gpt-4* begins so, re:4o|turbo "
        "contains a match, none is no label, any is all. May be repeated. "
        "When absent: GPT-4, or any with --ids.",
    ),
]
LangOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lang",
        metavar="CODE",
        help="The language, such as en or en,zh; none where it can't be told, any only fills it "
        "in. May be repeated.",
    ),
]
MinTurnsOption = Annotated[
    int | None,
    typer.Option("--min-turns", help="At least so many turns: one question and answer are 2."),
]
MaxTurnsOption = Annotated[int | None, typer.Option("--max-turns", help="At most so many turns.")]
MinCharsOption = Annotated[
    int | None,
    typer.Option("--min-chars", help="At least so many characters in all messages together."),
]
MaxCharsOption = Annotated[
    int | None, typer.Option("--max-chars", help="At most so many characters.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="FIELD OP VALUE, OP one of = != < <= > >= ~ !~ (~ is a regular expression), such as "
        "'source~^a/' or 'weight>=0.5'. May be repeated: all must hold.",
    ),
]
IdsOption = Annotated[
    Path | None,
    typer.Option(
        "--ids",
        metavar="FILE",
        allow_dash=True,
        help="The ids to keep: one a line, a JSON list, or JSONL rows; - is stdin.",
    ),
]
SampleOption = Annotated[
    str | None,
    typer.Option(
        "--sample",
        metavar="N|SHARE",
        help="Of what is left so many, such as 1000, 10% or 0.1; the same ones on every run.",
    ),
]
