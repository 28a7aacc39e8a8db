"""`openchat model …`: the model types, and making a base model ready."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from openchat_cli.cli.options import ForceFlag, JsonFlag, ModelFileOption, QuietFlag
from openchat_cli.cli.terminal import Terminal, confirm, is_person
from openchat_cli.core import registry
from openchat_cli.core.errors import OpenChatError, need
from openchat_cli.core.registry import ModelType
from openchat_cli.core.templates import template_hash
from openchat_cli.model.settings import Dtype, PrepareSettings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """The model types, and preparing a base model.

    \b
    openchat model list
    openchat model prepare BASE OUT --model-type openchat
    """


@app.command("list")
def list_types(
    model_file: ModelFileOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Show the model types, and the memory that each needs.

    \b
    openchat model list
    openchat model list --json | jq '.counts.types[].name'
    """
    with Terminal("model list", json_output=json_, quiet=quiet) as terminal:
        known = registry.built_in() | (registry.load(model_file) if model_file else {})
        if json_:
            terminal.done(counts={"types": [_described(kind) for kind in known.values()]})
            return
        columns = ("type", "base", "context", "licence", "weights (bf16)", "full fine-tuning")
        rows = [
            (
                kind.name,
                kind.base,
                str(kind.context),
                kind.license,
                _gigabytes(kind.parameters * _WEIGHTS),
                _gigabytes(kind.parameters * _TRAINING),
            )
            for kind in known.values()
        ]
        for line in _aligned([columns, *rows]):
            terminal.data(line)
        terminal.note("full fine-tuning: weights, gradients and optimiser over all GPUs together")


@app.command("show")
def show(
    model_type: Annotated[str, typer.Argument(help="A type's name.", metavar="TYPE")],
    model_file: ModelFileOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Show all of one model type: its format, its tokens, its recipe.

    \b
    openchat model show openchat
    openchat model show openchat --json | jq .counts.recipe
    """
    with Terminal("model show", json_output=json_, quiet=quiet) as terminal:
        kind = registry.get(model_type, model_file)
        if json_:
            terminal.done(counts=_described(kind))
            return
        for name, value in _shown(kind).items():
            terminal.data(f"{name:<24}{value}")


@app.command("prepare")
def prepare_model(
    base: Annotated[
        Path, typer.Argument(help="The base model: its folder or its name on the hub.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    model_type: Annotated[
        str,
        typer.Option("--model-type", help="openchat, openchat_8192, opencoder, or your own."),
    ],
    model_file: ModelFileOption = PrepareSettings.model_file,
    context: Annotated[
        int | None, typer.Option(help="Tokens of context, where not the type's own.", min=16)
    ] = PrepareSettings.context,
    dtype: Annotated[
        Dtype, typer.Option(help="What the weights are stored as; keep: as the base's.")
    ] = PrepareSettings.dtype,
    reuse_eot: Annotated[
        bool,
        typer.Option(
            "--reuse-eot", help="Take a base that has the end-of-turn token, with its embedding."
        ),
    ] = PrepareSettings.reuse_eot,
    seed: Annotated[
        int, typer.Option(help="Seed of a random new embedding (opencoder).")
    ] = PrepareSettings.seed,
    force: ForceFlag = PrepareSettings.force,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Add the end-of-turn token, set the context and write the chat template.

    \b
    openchat model prepare llama-13b/ prepared/ --model-type openchat
    openchat model prepare bigcode/starcoderplus out/ --model-type opencoder --json | jq .counts
    """
    with Terminal("model prepare", json_output=json_, quiet=quiet) as terminal:
        from openchat_cli.model.prepare import prepare

        need("openchat model prepare", "model", "torch", "transformers")
        settings = PrepareSettings(
            base=_on_this_machine(base, terminal),
            out=out,
            model_type=model_type,
            model_file=model_file,
            context=context,
            dtype=dtype,
            reuse_eot=reuse_eot,
            seed=seed,
            force=force,
        )
        summary = prepare(settings, progress=terminal.progress)
        counts = {
            "model_type": summary.model_type,
            "eot_id": summary.eot_id,
            "new_rows": summary.new_rows,
            "vocab_size": summary.vocab_size,
            "context": summary.context,
            "base_context": summary.base_context,
            "parameters": summary.parameters,
            "dtype": summary.dtype,
            "tokenizer_hash": summary.tokenizer_hash,
        }
        terminal.done(
            outputs=[out],
            counts=counts,
            next_command=["openchat", "data", "convert", "DATA", "DATA", "--model-path", out],
        )


def _on_this_machine(base: Path, terminal: Terminal) -> Path:
    """The base's folder; a download is announced with its size and, on a terminal, asked for."""
    from openchat_cli.model import hub

    found = hub.find(base)
    if found is not None or not hub.is_name(base):
        return found or base
    download = hub.plan(base)
    size = hub.gigabytes(download.size)
    terminal.note(f"{download.title} is not on this machine: {size} to fetch")
    if is_person() and not confirm("download it?"):
        raise OpenChatError(f"{download.title}: not downloaded")
    return hub.fetch(download, progress=terminal.progress)


# Bytes a parameter: bf16 weights alone; with bf16 gradients and AdamW's fp32 state (mixed
# precision as DeepSpeed does it: 2 + 2 + 12), activations not counted.
_WEIGHTS, _TRAINING = 2, 16


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width, never cut: they may go into a pipe."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _described(kind: ModelType) -> dict[str, Any]:
    return registry.dump(kind) | {
        "template_hash": template_hash(kind),
        "weights_bytes": int(kind.parameters * _WEIGHTS),
        "full_finetune_bytes": int(kind.parameters * _TRAINING),
    }


def _shown(kind: ModelType) -> dict[str, object]:
    turn = [kind.bos or "", *(f"{text}…{kind.eot}" for text in _one_turn(kind))]
    recipe = registry.dump(kind)["recipe"]
    return {
        "type": kind.name,
        "title": kind.title,
        "aliases": ", ".join(kind.aliases) or "none",
        "base": kind.base,
        "released": kind.released,
        "licence of the weights": kind.license,
        "architecture": kind.architecture,
        "tokeniser": kind.tokenizer,
        "context": f"{kind.context} tokens",
        "one turn": "".join(turn),
        "system message": "has a role" if "system" in kind.roles else "goes before the user's text",
        "BOS": kind.bos or "none",
        "EOT": f"{kind.eot}, a new embedding starts as {_START[kind.eot_init]}",
        "template hash": template_hash(kind),
        "weights (bf16)": _gigabytes(kind.parameters * _WEIGHTS),
        "full fine-tuning": _gigabytes(kind.parameters * _TRAINING),
        **{name.replace("_", " "): json.dumps(value) for name, value in recipe.items()},
    }


_START = {"mean": "the mean of all others", "normal": "a draw from N(0, 0.02)"}


def _one_turn(kind: ModelType) -> list[str]:
    return [kind.roles["user"], kind.roles["assistant"]]
