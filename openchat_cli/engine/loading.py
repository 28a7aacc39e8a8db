"""From a model folder to what the engine runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import Progress
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer, read_manifest, resolve_type
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.settings import Dtype, EngineSettings


@dataclass(frozen=True)
class Parts:
    """A loaded model with all that an engine needs besides."""

    runner: Runner
    tokenizer: ChatTokenizer
    kind: ModelType
    end_tokens: Sequence[int]


def load_parts(settings: EngineSettings, *, progress: Progress) -> Parts:
    """Load what `settings` names. Raises InputError or UsageError where it does not fit."""
    path = settings.model_path
    kind = resolve_type(settings.model_type, model_path=path, model_file=settings.model_file)
    tokenizer = load_tokenizer(path, kind)
    device = _device(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(settings.threads or _cpus())
    with progress.task(f"loading {path.name or path}", unit="models") as task:
        model = _model(path, kind, device, _dtype(settings.dtype, device))
        task.advance()
    size = model.config.vocab_size
    if tokenizer.eot_id >= size:
        raise InputError(
            f"{path}: the model knows {size} tokens, {kind.eot} would be one more",
            f"openchat model prepare {path} OUT --model-type {kind.name}",
        )
    runner = Runner(
        model,
        slots=settings.max_slots,
        context=_context(settings, kind, model.config),
        vocab_size=min(size, tokenizer.vocab_size),
        memory=settings.gpu_memory_utilization,
    )
    if runner.slots < settings.max_slots:
        progress.note(f"memory holds {runner.slots} slots of the {settings.max_slots} asked for")
    return Parts(runner, tokenizer, kind, _end_tokens(model))


def _model(
    path: Path, kind: ModelType, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="sdpa")
    if model.config.model_type != kind.architecture:
        message = (
            f"{path}: a {model.config.model_type} model, type {kind.name} is {kind.architecture}"
        )
        raise InputError(message)
    loaded: PreTrainedModel = model.eval().to(device)
    return loaded


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device '{name}'", "cpu, cuda or cuda:1, for instance") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device here for '{name}'", "leave the device out to use the CPU")
    return device


def _dtype(name: Dtype, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def _context(settings: EngineSettings, kind: ModelType, config: Any) -> int:
    manifest = read_manifest(settings.model_path)
    trained = kind.context if manifest is None else manifest.context
    most = min(trained, int(config.max_position_embeddings))
    if settings.context is None:
        return most
    if settings.context > most:
        raise UsageError(f"a context of {settings.context} was asked for, the model has {most}")
    return settings.context


def _end_tokens(model: PreTrainedModel) -> Sequence[int]:
    """Tokens that the model's own generation_config calls an end."""
    found = getattr(model.generation_config, "eos_token_id", None)
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)


def _cpus() -> int:
    """As many threads as torch would take, but no more than this process may use.

    A container's quota is invisible to torch, and threads beyond it only wait for each other.
    """
    threads = torch.get_num_threads()
    if hasattr(os, "sched_getaffinity"):
        threads = min(threads, len(os.sched_getaffinity(0)))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            threads = min(threads, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no such limit on this system
    return threads
