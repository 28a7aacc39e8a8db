"""`openchat train`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from openchat_cli.cli.downloads import ask_first
from openchat_cli.cli.options import (
    DryRunFlag,
    ForceFlag,
    JsonFlag,
    ModelFileOption,
    ModelTypeOption,
    QuietFlag,
)
from openchat_cli.cli.terminal import Terminal
from openchat_cli.training.settings import (
    Batching,
    Device,
    Dtype,
    LossScale,
    Ranks,
    Schedule,
    TrainSettings,
)

_RECIPE = "From the recipe"
_MEMORY = "Speed and memory"
_KEEP = "Checkpoints and evaluation"


def train(
    model_path: Annotated[
        Path, typer.Option("--model-path", help="The model to train: a folder of `model prepare`.")
    ],
    data_path: Annotated[
        Path,
        typer.Option("--data-path", help="The dataset: a folder of `data convert`, or DIR/TYPE."),
    ],
    save_path: Annotated[
        Path, typer.Option("--save-path", help="Folder for the trained model, log, checkpoints.")
    ],
    model_type: ModelTypeOption = TrainSettings.model_type,
    model_file: ModelFileOption = TrainSettings.model_file,
    num_gpus: Annotated[
        int, typer.Option("--num-gpus", help="Ranks to start here: GPUs, or processes on CPU.")
    ] = TrainSettings.num_gpus,
    device: Annotated[
        Device, typer.Option("--device", help="Where to train.")
    ] = TrainSettings.device,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the data.", rich_help_panel=_RECIPE),
    ] = TrainSettings.epochs,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            help="Conversations in one optimiser step, over all ranks.",
            rich_help_panel=_RECIPE,
        ),
    ] = TrainSettings.batch_size,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Its peak.", rich_help_panel=_RECIPE),
    ] = TrainSettings.learning_rate,
    schedule: Annotated[
        Schedule | None,
        typer.Option("--schedule", help="How the rate falls.", rich_help_panel=_RECIPE),
    ] = TrainSettings.schedule,
    warmup_ratio: Annotated[
        float | None,
        typer.Option("--warmup-ratio", help="Share of the steps.", rich_help_panel=_RECIPE),
    ] = TrainSettings.warmup_ratio,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="AdamW's.", rich_help_panel=_RECIPE)
    ] = TrainSettings.weight_decay,
    gradient_clipping: Annotated[
        float | None,
        typer.Option(
            "--gradient-clipping", help="Largest global norm; 0: none.", rich_help_panel=_RECIPE
        ),
    ] = TrainSettings.gradient_clipping,
    dtype: Annotated[
        Dtype | None, typer.Option("--dtype", help="Of the weights.", rich_help_panel=_RECIPE)
    ] = TrainSettings.dtype,
    loss_scale: Annotated[
        LossScale,
        typer.Option(
            "--loss-scale",
            help="token: every supervised token of a step weighs the same; reference: the "
            "original's mean of micro-batch means.",
            rich_help_panel=_RECIPE,
        ),
    ] = TrainSettings.loss_scale,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the order of the data.", rich_help_panel=_RECIPE)
    ] = TrainSettings.seed,
    zero_stage: Annotated[
        int | None,
        typer.Option(
            "--zero-stage", help="What DeepSpeed divides: 0 to 3.", rich_help_panel=_MEMORY
        ),
    ] = TrainSettings.zero_stage,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--gradient-checkpointing/--no-gradient-checkpointing",
            help="Less memory, a third more work.",
            rich_help_panel=_MEMORY,
        ),
    ] = TrainSettings.gradient_checkpointing,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            help="Tokens in one rank's micro-batch; 8192, or two contexts, when absent.",
            rich_help_panel=_MEMORY,
        ),
    ] = TrainSettings.max_tokens,
    batching: Annotated[
        Batching,
        typer.Option(
            "--batching",
            help="packed: no padding; length-grouped: the original's.",
            rich_help_panel=_MEMORY,
        ),
    ] = TrainSettings.batching,
    micro_batch: Annotated[
        int,
        typer.Option(
            "--micro-batch",
            help="Conversations in one rank's micro-batch, with length-grouped.",
            rich_help_panel=_MEMORY,
        ),
    ] = TrainSettings.micro_batch,
    deepspeed_config: Annotated[
        Path | None,
        typer.Option(
            "--deepspeed-config",
            help="DeepSpeed's own JSON, taken as it is; ours fills what it omits.",
            rich_help_panel=_MEMORY,
        ),
    ] = TrainSettings.deepspeed_config,
    save_every: Annotated[
        int | None,
        typer.Option(
            "--save-every",
            help="Steps between checkpoints, besides one an epoch.",
            rich_help_panel=_KEEP,
        ),
    ] = TrainSettings.save_every,
    eval_every: Annotated[
        int | None,
        typer.Option(
            "--eval-every",
            help="Steps between evaluations, besides one an epoch.",
            rich_help_panel=_KEEP,
        ),
    ] = TrainSettings.eval_every,
    keep: Annotated[
        int, typer.Option("--keep", help="Checkpoints to keep.", rich_help_panel=_KEEP)
    ] = TrainSettings.keep,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the newest checkpoint in --save-path, where there is one.",
            rich_help_panel=_KEEP,
        ),
    ] = TrainSettings.resume,
    dry_run: DryRunFlag = False,
    force: ForceFlag = TrainSettings.force,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Fine-tune a model with DeepSpeed, on CPU, one GPU or many.

    \b
    openchat train --model-path prepared/ --data-path data/ --save-path model/
    torchrun --nproc-per-node 8 -m openchat_cli train --model-path M --data-path D --save-path S
    """
    settings = TrainSettings(
        model_path=model_path,
        data_path=data_path,
        save_path=save_path,
        model_type=model_type,
        model_file=model_file,
        num_gpus=num_gpus,
        device=device,
        dtype=dtype,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        warmup_ratio=warmup_ratio,
        weight_decay=weight_decay,
        gradient_clipping=gradient_clipping,
        zero_stage=zero_stage,
        gradient_checkpointing=gradient_checkpointing,
        max_tokens=max_tokens,
        batching=batching,
        micro_batch=micro_batch,
        loss_scale=loss_scale,
        deepspeed_config=deepspeed_config,
        save_every=save_every,
        eval_every=eval_every,
        keep=keep,
        resume=resume,
        force=force,
        seed=seed,
    )
    ranks = Ranks.of_environment(os.environ)
    others = ranks is not None and ranks.rank > 0  # only the first rank talks
    terminal = Terminal("train", json_output=json_ and not others, quiet=quiet or others)
    with terminal:
        from openchat_cli.model import hub

        if ranks is None:
            ask_first(model_path, model_type)
        folder = hub.local(model_path, progress=terminal.progress)
        settings = dataclasses.replace(settings, model_path=folder)
        if dry_run:
            _show_plan(terminal, settings, ranks, json_output=json_)
        else:
            _train(terminal, settings, ranks)


def _train(terminal: Terminal, settings: TrainSettings, ranks: Ranks | None) -> None:
    from openchat_cli.training.launch import train as run

    summary = run(settings, progress=terminal.progress, ranks=ranks)
    counts = {
        name: _rounded(value)
        for name, value in dataclasses.asdict(summary).items()
        if name != "save_path"
    }
    if summary.eval_loss_first is not None and summary.eval_loss_last is not None:
        terminal.note(
            f"eval loss {summary.eval_loss_first:.4f} -> {summary.eval_loss_last:.4f}, "
            f"{summary.tokens_per_second:,.0f} tokens/s"
        )
    terminal.done(
        outputs=[summary.save_path],
        counts=counts,
        next_command=["openchat", "serve", "--model-path", summary.save_path],
    )


def _show_plan(
    terminal: Terminal, settings: TrainSettings, ranks: Ranks | None, *, json_output: bool
) -> None:
    from openchat_cli.training.launch import plan

    resolved = plan(settings, ranks=ranks)
    numbers = {
        name: _rounded(value) for name, value in dataclasses.asdict(resolved.summary()).items()
    }
    run = resolved.run.to_row()
    for warning in resolved.warnings:
        terminal.progress.warn(warning)
    if not json_output:
        terminal.data_table("settings", ("name", "value"), list(run.items()))
        terminal.data_table("plan", ("name", "value"), list(numbers.items()))
    terminal.done(counts={"plan": numbers, "settings": run})


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
