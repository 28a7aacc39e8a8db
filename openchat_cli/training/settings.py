"""What `openchat train` is told, what it is resolved to, and what it tells at the end.

`TrainSettings` is what the user asked for: None means "as the model type's recipe says".
`Run` is the same with every value decided; it travels to the ranks as one JSON object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

Schedule = Literal["cosine", "linear", "constant"]
Dtype = Literal["bf16", "fp32"]
Batching = Literal["packed", "length-grouped"]
LossScale = Literal["token", "reference"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class TrainSettings:
    """One fine-tuning run as the user asks for it."""

    model_path: Path  # a folder made by `model prepare`
    data_path: Path  # a folder made by `data convert`, or DIR/TYPE as a prefix of its files
    save_path: Path  # gets the trained model, the log and the checkpoints
    model_type: str | None = None
    model_file: Path | None = None
    num_gpus: int = 1  # ranks on this machine, also where they are CPU processes
    device: Device = "auto"
    dtype: Dtype | None = None
    epochs: int | None = None
    batch_size: int | None = None  # conversations in one optimiser step, over all ranks
    learning_rate: float | None = None
    schedule: Schedule | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    gradient_clipping: float | None = None
    zero_stage: int | None = None
    gradient_checkpointing: bool | None = None
    max_tokens: int | None = (
        None  # tokens in one rank's micro-batch; None: 8192, or two contexts if more
    )
    batching: Batching = "packed"
    micro_batch: int = 2  # conversations in one rank's micro-batch, where batching is by length
    loss_scale: LossScale = "token"
    deepspeed_config: Path | None = None
    save_every: int | None = None  # steps between checkpoints, besides one at each epoch's end
    eval_every: int | None = None  # steps between evaluations, besides one at each epoch's end
    keep: int = 3  # checkpoints to keep
    resume: bool = False
    force: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that a launcher (torchrun, srun, …) started."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """What torchrun, deepspeed or srun have set; None where nothing launched us."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if "RANK" not in environment and "MASTER_ADDR" in environment:
            names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
        rank, world, local, node = (environment.get(name, "") for name in names)
        if not (rank.isdigit() and world.isdigit()):
            return None
        return cls(
            rank=int(rank),
            world_size=int(world),
            local_rank=int(local) if local.isdigit() else 0,
            local_world_size=int(node) if node.isdigit() else 1,
        )


@dataclass(frozen=True)
class Run:
    """A run with every value decided, as JSON can carry it."""

    model_path: str
    train_file: str
    eval_file: str | None
    save_path: str
    model_type: str
    world_size: int
    device: Device
    dtype: Dtype
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str  # a Schedule, or "deepspeed" where the user's file brings its own
    warmup_ratio: float
    weight_decay: float
    gradient_clipping: float
    zero_stage: int
    gradient_checkpointing: bool
    max_tokens: int
    batching: Batching
    micro_batch: int
    loss_scale: LossScale
    save_every: int | None
    eval_every: int | None
    keep: int
    resume: bool
    seed: int
    vocab_size: int
    data_hash: str
    deepspeed: dict[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The run as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The run that `to_row` wrote."""
        return cls(**row)

    @property
    def folder(self) -> Path:
        """Where everything the run makes goes."""
        return Path(self.save_path)


@dataclass(frozen=True)
class PlanSummary:
    """What a run will do, for `--dry-run` and for the log."""

    conversations: int
    eval_conversations: int
    tokens: int  # of one epoch
    supervised_tokens: int  # of one epoch: those that have a loss
    steps: int
    warmup_steps: int
    micro_steps: int  # of one epoch
    useful_share: float  # real tokens over the tokens that all ranks spend time on


@dataclass(frozen=True)
class TrainSummary:
    """How a run went."""

    save_path: Path
    steps: int
    resumed_from: int
    world_size: int
    loss: float | None  # of the last step; None where nothing was left to do
    eval_loss_first: float | None
    eval_loss_last: float | None
    tokens: int  # trained on in this process's share of the run, conversations' own tokens
    tokens_per_second: float  # over the time of the steps, without evaluation and saving
    useful_share: float
    seconds: float  # from the ranks' start to the exported model
    startup_seconds: float  # of which before the first step
