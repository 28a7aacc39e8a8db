"""The DeepSpeed configuration: the user's file as it is, ours only where it is silent.

Where the file and a flag say different things, nothing is guessed: the conflict is named.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import UsageError

Config = dict[str, Any]

_OBJECTS = (
    ("zero_optimization",),
    ("optimizer",),
    ("optimizer", "params"),
    ("scheduler",),
    ("bf16",),
    ("fp16",),
)
# our setting -> its place in DeepSpeed's file
_SAME = {
    "batch_size": ("train_batch_size",),
    "zero_stage": ("zero_optimization", "stage"),
    "gradient_clipping": ("gradient_clipping",),
    "learning_rate": ("optimizer", "params", "lr"),
    "weight_decay": ("optimizer", "params", "weight_decay"),
}


def read(path: Path) -> Config:
    """The user's file, without the values "auto" that Hugging Face's trainer fills."""
    found = jsonl.read_json(path)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: a JSON object was expected")
    config = _without_auto(found)
    for place in _OBJECTS:
        if not isinstance(_at(config, place), dict | None):
            raise UsageError(f"{path}: '{'.'.join(place)}' must be an object")
    if _at(config, ("fp16", "enabled")) is True:
        raise UsageError(f"{path}: fp16 is not supported", "train in bf16 or fp32")
    return config


def values(path: Path, config: Config, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says about our own settings, by their names.

    `asked` are the settings of the command line, None where it is silent. Raises UsageError for a
    setting that both name with different values.
    """
    found = {name: _at(config, place) for name, place in _SAME.items()}
    for name, value in found.items():
        if value is not None:
            _check(path, name, value)
    bf16 = _at(config, ("bf16", "enabled"))
    found["dtype"] = {True: "bf16", False: "fp32"}.get(bf16) if isinstance(bf16, bool) else None
    if "scheduler" in config:
        found["schedule"] = "deepspeed"
    for name, value in found.items():
        wanted = asked.get(name)
        if value is not None and wanted is not None and value != wanted:
            option = "--" + name.replace("_", "-")
            message = f"{path} has {name.replace('_', ' ')} {value}, {option} says {wanted}"
            raise UsageError(message, "leave one of them out")
    if "scheduler" in config and asked.get("warmup_ratio") is not None:
        raise UsageError(f"{path} has a scheduler, --warmup-ratio belongs to ours")
    return {name: value for name, value in found.items() if value is not None}


def _check(path: Path, name: str, value: object) -> None:
    if name == "zero_stage":
        good, wanted = type(value) is int and 0 <= value <= 3, "0, 1, 2 or 3"
    elif name == "batch_size":
        good, wanted = type(value) is int and value >= 1, "a whole number from 1 on"
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        wanted = "a number, not negative"
    if not good:
        raise UsageError(f"{path}: '{'.'.join(_SAME[name])}' must be {wanted}, not {value!r}")


def ignored(config: Config) -> list[str]:
    """Keys of the file that mean nothing here: the plan decides on micro-batches."""
    names = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    return [name for name in names if name in config]


def complete(
    config: Config,
    *,
    zero_stage: int,
    dtype: str,
    clipping: float,
    learning_rate: float,
    cpu: bool,
) -> Config:
    """The file with everything that we need and it omits.

    Micro-batches are bins of their own sizes and loss scales, so DeepSpeed is told that each is
    one of one; the worker says which is the last of a step.
    """
    full = copy.deepcopy(config)
    full.pop("train_batch_size", None)
    full |= {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1}
    full.setdefault("gradient_clipping", clipping)
    full.setdefault("steps_per_print", 10**9)  # our own log tells more
    full.setdefault("bf16", {"enabled": dtype == "bf16"})
    zero = full.setdefault("zero_optimization", {})
    zero.setdefault("stage", zero_stage)
    if zero["stage"] == 1 and dtype == "bf16":
        # Many small micro-steps would lose digits when summed in bf16.
        full.setdefault("data_types", {"grad_accum_dtype": "fp32"})
    if "optimizer" in full:
        params = full["optimizer"].setdefault("params", {})
        params.setdefault("lr", learning_rate)
        if cpu and str(full["optimizer"].get("type")).lower() in ("adam", "adamw"):
            params.setdefault("torch_adam", True)  # DeepSpeed's own would need a compiler
    return full


def _at(config: Config, place: tuple[str, ...]) -> Any:
    value: Any = config
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _without_auto(config: Config) -> Config:
    kept: Config = {}
    for key, value in config.items():
        if isinstance(value, dict):
            kept[key] = _without_auto(value)
        elif value != "auto":
            kept[key] = value
    return kept
