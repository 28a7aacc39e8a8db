"""Checkpoints: written beside, renamed when whole, pointed to by `latest`, the oldest removed.

SAVE/checkpoints/step-00000040/         DeepSpeed's files, for every rank
SAVE/checkpoints/step-00000040/openchat.checkpoint.json    what it belongs to; written last
SAVE/checkpoints/latest                 the name of the newest
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.training.settings import Run

_META = "openchat.checkpoint.json"
_PART = ".part-"

# What must not change between a run and its continuation, for the curve to go on as if nothing
# had happened; the rest (max_tokens, how often to save, …) may.
_FIXED = (
    "data_hash",
    "model_type",
    "seed",
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "warmup_ratio",
    "weight_decay",
    "gradient_clipping",
    "dtype",
    "batching",
    "micro_batch",
    "loss_scale",
    "zero_stage",
    "world_size",
    "deepspeed",
)
_LABELS = {"data_hash": "data-path (another dataset)", "world_size": "num-gpus"}


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int  # steps done

    @property
    def tag(self) -> str:
        """The folder's name, which is DeepSpeed's tag."""
        return self.path.name


def folder(run: Run) -> Path:
    """Where a run's checkpoints are."""
    return run.folder / "checkpoints"


def part_tag(step: int) -> str:
    """The name to write a checkpoint under until it is whole."""
    return f"{_PART}{_name(step)}"


def finish(run: Run, step: int) -> Path:
    """Make the checkpoint written under `part_tag` a whole one, and drop those past `keep`.

    Called by one rank when all have written.
    """
    here = folder(run)
    part, whole = here / part_tag(step), here / _name(step)
    jsonl.write_json(part / _META, {"step": step, "run": run.to_row()})
    if whole.exists():
        shutil.rmtree(whole)
    part.rename(whole)
    jsonl.write_text(here / "latest", f"{whole.name}\n")
    for old in _whole(here)[: -run.keep]:
        shutil.rmtree(old.path)
    return whole


def newest(save_path: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a save path."""
    found = _whole(save_path / "checkpoints")
    return found[-1] if found else None


def check_continues(run: Run, checkpoint: Checkpoint) -> None:
    """Refuse to go on from a checkpoint that another dataset or other settings made."""
    file = checkpoint.path / _META
    meta = jsonl.read_json(file)
    if not isinstance(meta, dict) or not isinstance(meta.get("run"), dict):
        hint = f"remove {checkpoint.path} to resume from the one before it"
        raise InputError(f"{file}: does not say what the checkpoint belongs to", hint)
    before: dict[str, Any] = meta["run"]
    now = run.to_row()
    for name in _FIXED:
        if before.get(name) != now[name]:
            label = _LABELS.get(name, name.replace("_", "-"))
            message = f"{checkpoint.path} was made with {label} {before.get(name)}, not {now[name]}"
            hint = "resume with the same settings, or begin anew with --force"
            raise UsageError(message, hint)


def clean(run: Run, *, everything: bool) -> None:
    """Remove what an interrupted save left; with `everything` also the whole checkpoints."""
    here = folder(run)
    for path in here.glob("*" if everything else f"{_PART}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _whole(here: Path) -> list[Checkpoint]:
    metas = sorted(here.glob(f"step-*/{_META}"))
    return [Checkpoint(meta.parent, int(meta.parent.name.removeprefix("step-"))) for meta in metas]
