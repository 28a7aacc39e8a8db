"""`openchat data …`: one file a command."""

from __future__ import annotations

import typer

from openchat_cli.cli.data.clean import clean
from openchat_cli.cli.data.convert import convert
from openchat_cli.cli.data.embed import embed
from openchat_cli.cli.data.filter import filter_
from openchat_cli.cli.data.map import map_
from openchat_cli.cli.data.run import run

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Turn raw chats into a training set."""


app.command("clean")(clean)
app.command("filter")(filter_)
app.command("convert")(convert)
app.command("run")(run)
app.command("embed")(embed)
app.command("map")(map_)
