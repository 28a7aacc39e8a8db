"""`openchat model tiny`, hidden: a base model for the demo, with nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openchat_cli.cli.options import ForceFlag, JsonFlag, QuietFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.errors import need
from openchat_cli.model.tiny import TinySettings


def tiny(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    corpus: Annotated[
        Path, typer.Option("--corpus", help="Conversations to learn a tokeniser from.")
    ],
    vocab_size: Annotated[
        int, typer.Option(help="Pieces of the tokeniser.")
    ] = TinySettings.vocab_size,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = TinySettings.seed,
    force: ForceFlag = TinySettings.force,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Make a tiny LLaMA with random weights and a tokeniser of its own, to try the road with.

    \b
    openchat model tiny base/ --corpus data/filtered.jsonl
    openchat model tiny base/ --corpus - --json < data/filtered.jsonl | jq .counts.parameters
    """
    with Terminal("model tiny", json_output=json_, quiet=quiet) as terminal:
        from openchat_cli.model.tiny import make_tiny

        need("openchat model tiny", "model", "torch")
        settings = TinySettings(
            corpus=corpus, out=out, vocab_size=vocab_size, seed=seed, force=force
        )
        summary = make_tiny(settings, progress=terminal.progress)
        counts = {
            "parameters": summary.parameters,
            "vocab_size": summary.vocab_size,
            "texts": summary.texts,
        }
        terminal.done(
            outputs=[out],
            counts=counts,
            next_command=["openchat", "model", "prepare", out, "OUT", "--model-type", "openchat"],
        )
