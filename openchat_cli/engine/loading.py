"""From a model folder to what the engine runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from openchat_cli.core import jsonl, registry
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.manifest import Manifest, read_manifest, resolve_type
from openchat_cli.core.progress import Progress
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer
from openchat_cli.engine import cuda, quantized
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.settings import CPU_SLOTS, Dtype, EngineSettings
from openchat_cli.model import hub
from openchat_cli.model.load import load_model

_SMALL = 20_000_000  # parameters


@dataclass(frozen=True)
class Parts:
    """A loaded model with all that an engine needs besides."""

    runner: Runner
    tokenizer: ChatTokenizer
    kind: ModelType
    end_tokens: Sequence[int]
    weight_bytes: int


def load_parts(settings: EngineSettings, *, progress: Progress) -> Parts:
    """Load what `settings` names, from the hub where it is no folder here.

    `progress` is told of one piece of work after another, which /health shows. Raises InputError or
    UsageError where something does not fit.
    """
    if settings.model_type is not None:
        registry.get(settings.model_type, settings.model_file)  # refused before a long download
    typed = settings.model_type is not None
    code = settings.trust_remote_code
    path = hub.local(settings.model_path, typed=typed, code=code, progress=progress)
    if not path.is_dir():
        raise hub.no_such_folder(path)
    kind = resolve_type(settings.model_type, model_path=path, model_file=settings.model_file)
    tokenizer = load_tokenizer(path, kind)
    device = _device(settings.device)
    dtype = _dtype(settings.dtype, device)
    if settings.quantize is not None:
        quantized.check(settings.quantize, device, dtype)
    manifest = read_manifest(path) or _of_release(path, kind, tokenizer)
    model = load_model(
        path,
        dtype=dtype,
        device=device,
        attention="sdpa",
        manifest=manifest,
        trust_remote_code=settings.trust_remote_code,
        progress=progress,
    )
    if settings.quantize is not None:
        with progress.task(f"rounding the weights to {settings.quantize}", 1, "models") as task:
            quantized.quantize(model, settings.quantize, device)
            task.advance()
    if device.type == "cpu":
        torch.set_num_threads(settings.threads or _threads_for(model))
    found = model.config.model_type
    if found != kind.architecture:
        raise InputError(f"{path}: a {found} model, model type {kind.name} is {kind.architecture}")
    context = _context(settings.context, manifest, model.config)
    vocab_size = min(model.config.vocab_size, tokenizer.vocab_size)
    weight_bytes = _bytes(model)  # before layers are repacked into what torch can't count
    runner = _runner(model, settings, context=context, vocab_size=vocab_size, progress=progress)
    return Parts(runner, tokenizer, kind, _end_tokens(model), weight_bytes)


def _runner(
    model: PreTrainedModel,
    settings: EngineSettings,
    *,
    context: int,
    vocab_size: int,
    progress: Progress,
) -> Runner:
    if model.device.type == "cuda":
        return cuda.start(
            model, settings, context=context, vocab_size=vocab_size, progress=progress
        )
    slots = max(settings.max_slots or CPU_SLOTS, settings.max_concurrency or 0)
    return Runner(model, slots=slots, context=context, vocab_size=vocab_size)


def _bytes(model: PreTrainedModel) -> int:
    """What the weights take; those that two layers share count once."""
    return sum(_size(weight) for weight in (*model.parameters(), *model.buffers()))


def _size(weight: torch.Tensor) -> int:
    """A tensor's bytes; torchao's tensors call themselves as large as what they stand for."""
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()
    return sum(_size(getattr(weight, name)) for name in names)


def _of_release(path: Path, kind: ModelType, tokenizer: ChatTokenizer) -> Manifest:
    """What `openchat.json` would say of a released model, whose weights know its type's tokens.

    Raises InputError for a base model, which has no end-of-turn token yet.
    """
    size = jsonl.read_json(path / "config.json").get("vocab_size", 0)
    if tokenizer.eot_id >= size:
        raise InputError(
            f"{path}: not a chat model yet: of its {size} tokens none is {kind.eot}",
            f"openchat model prepare {path} OUT --model-type {kind.name}",
        )
    return Manifest(kind, tokenizer.eot_id, tokenizer.hash, kind.context)


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


def _dtype(name: Dtype, device: torch.device) -> Literal["fp32", "bf16"]:
    if name == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return name


def _context(asked: int | None, manifest: Manifest, config: Any) -> int:
    most = min(manifest.context, int(config.max_position_embeddings))
    if asked is not None and asked > most:
        raise UsageError(f"a context of {asked} was asked for, the model has {most}")
    return asked or most


def _end_tokens(model: PreTrainedModel) -> Sequence[int]:
    """Tokens that the model's own generation_config calls an end."""
    found = getattr(model.generation_config, "eos_token_id", None)
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)


def _threads_for(model: PreTrainedModel) -> int:
    """One thread for a small model, whose operations are too short to be worth waiting for others.

    Measured with 1.6 M parameters and 32 slots on two cores that had other work: 9,600 tokens in
    2 to 5 s with one thread, in 32 to 52 s with two.
    """
    return 1 if sum(weight.numel() for weight in model.parameters()) < _SMALL else _cpus()


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
