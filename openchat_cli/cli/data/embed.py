"""`openchat data embed`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openchat_cli.cli.data.options import FolderArgument, RowsArgument
from openchat_cli.cli.keys import api_key
from openchat_cli.cli.options import (
    ConcurrencyOption,
    DryRunFlag,
    ForceFlag,
    JsonFlag,
    KeyFileOption,
    QuietFlag,
    TimeoutOption,
)
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.endpoint import OPENAI_URL, Endpoint
from openchat_cli.core.errors import PartialError
from openchat_cli.data.settings import EmbedSettings

if TYPE_CHECKING:
    from openchat_cli.data.embedding.embed import EmbedPlan, EmbedSummary

_CONCURRENCY = 4  # calls of 64 texts each


def embed(
    input_: RowsArgument,
    output: FolderArgument,
    model_path: Annotated[
        Path | None, typer.Option(help="The folder of a sentence-transformer, used offline.")
    ] = EmbedSettings.model_path,
    url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint; OpenAI's own when --model is alone."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The endpoint's model for embeddings.")
    ] = EmbedSettings.model,
    dimensions: Annotated[
        int | None,
        typer.Option(help="Numbers in a vector; 128 for TF-IDF, the model's own for an endpoint."),
    ] = EmbedSettings.dimensions,
    max_chars: Annotated[
        int, typer.Option(help="Characters of a conversation that are embedded.")
    ] = EmbedSettings.max_chars,
    max_tokens: Annotated[
        int, typer.Option(help="Tokens of a text that the endpoint's model takes.")
    ] = EmbedSettings.max_tokens,
    batch_size: Annotated[
        int, typer.Option(help="Texts in one call, or in one forward pass.")
    ] = EmbedSettings.batch_size,
    device: Annotated[
        str | None, typer.Option(help="For --model-path: cpu, cuda:0 …")
    ] = EmbedSettings.device,
    seed: Annotated[int, typer.Option(help="Of TF-IDF's SVD.")] = EmbedSettings.seed,
    api_key_file: KeyFileOption = None,
    timeout: TimeoutOption = Endpoint.timeout,
    concurrency: ConcurrencyOption = _CONCURRENCY,
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Give each conversation a vector: offline by TF-IDF, by a local model or by an endpoint.

    \b
    openchat data embed out/ out/ && openchat data map out/ out/
    openchat data embed out/ out/ --model text-embedding-3-small --dry-run
    """
    from openchat_cli.data.embedding import embed as stage

    with Terminal("data embed", json_output=json_, quiet=quiet) as terminal:
        endpoint = None
        if url is not None or model is not None:
            key = api_key(api_key_file)
            endpoint = Endpoint(url or OPENAI_URL, key, timeout, concurrency)
        settings = EmbedSettings(
            input=input_,
            output=output,
            model_path=model_path,
            endpoint=endpoint,
            model=model,
            dimensions=dimensions,
            max_chars=max_chars,
            max_tokens=max_tokens,
            batch_size=batch_size,
            device=device,
            seed=seed,
            force=force,
        )
        if dry_run:
            _show(terminal, settings, stage.plan(settings, progress=terminal.progress), json_)
            return
        summary = stage.embed(
            settings, planned=lambda plan: _tell(terminal, plan), progress=terminal.progress
        )
        _end(terminal, summary, ["openchat", "data", "map", output, output])
    if summary.failed:
        total = summary.failed + summary.count
        message = f"{summary.failed} of {total} conversations have no vector: {summary.reason}"
        raise PartialError(message, "run the same command with --force: only those are asked anew")


def _end(terminal: Terminal, summary: EmbedSummary, next_command: list[str | Path]) -> None:
    terminal.done(
        outputs=summary.outputs,
        counts={
            "embedded": summary.count,
            "failed": summary.failed,
            "dims": summary.dims,
            "method": summary.plan.method,
            "cut": summary.plan.cut,
            "shortened": summary.shortened,
            "calls": summary.calls,
            "recorded": summary.plan.recorded,
            "tokens": summary.tokens,
            "usd": summary.usd,
        },
        status="partial" if summary.failed else "ok",
        next_command=next_command,
    )


def _tell(terminal: Terminal, plan: EmbedPlan) -> None:
    """Before anything is sent: how much, and what it costs."""
    if plan.method != "endpoint":
        terminal.note(f"{plan.conversations:,} conversations, {plan.method}, nothing leaves here")
        return
    terminal.note(
        f"{plan.texts:,} texts to {plan.model}: {plan.recorded:,} recorded, {plan.calls:,} calls "
        f"to make, about {plan.tokens:,} tokens ({plan.counted_by}), {_cost(plan)}"
    )


def _cost(plan: EmbedPlan) -> str:
    return "no price known" if plan.usd is None else f"about ${plan.usd:.4f}"


def _show(terminal: Terminal, settings: EmbedSettings, plan: EmbedPlan, json_: bool) -> None:
    from openchat_cli.data.embedding.endpoint import PRICES_OF

    if not json_:
        rows = [(name.replace("_", " "), value) for name, value in asdict(plan).items()]
        rows[-1] = ("cost", _cost(plan))
        rows += [(name, getattr(settings, name)) for name in ("max_chars", "max_tokens", "seed")]
        rows.append(("batch size", settings.batch_size))
        rows.append(("endpoint", settings.endpoint.url if settings.endpoint else "none"))
        terminal.data_table(f"data embed (list prices of {PRICES_OF})", ("what", "value"), rows)
    terminal.done(counts=asdict(plan), status="dry-run")
