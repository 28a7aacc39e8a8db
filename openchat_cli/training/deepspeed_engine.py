"""All that knows DeepSpeed at run time: joining the ranks, the engine, its weights and norms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import UsageError
from openchat_cli.training import deepspeed_config
from openchat_cli.training.settings import Ranks, Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def device_of(run: Run, ranks: Ranks) -> torch.device:
    """This rank's device; on CPU the ranks share the cores."""
    import torch

    has_cuda = torch.cuda.is_available()
    if run.device == "cuda" and not has_cuda:
        raise UsageError("--device cuda: this torch sees no CUDA device", "--device cpu")
    if run.device == "cpu" or not has_cuda:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        torch.set_num_threads(max(1, cores // ranks.local_world_size))
        os.environ["DS_ACCELERATOR"] = "cpu"
        return torch.device("cpu")
    if ranks.local_rank >= torch.cuda.device_count():
        message = f"{ranks.local_world_size} ranks, but {torch.cuda.device_count()} CUDA devices"
        raise UsageError(message, f"--num-gpus {torch.cuda.device_count()}")
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


def join(ranks: Ranks, device: torch.device, rendezvous: Path | None) -> None:
    """Meet the other ranks: by a file on one machine, else by MASTER_ADDR and MASTER_PORT."""
    # DeepSpeed looks for these and knows no other way; a launcher other than ours may lack some.
    os.environ |= {
        "RANK": str(ranks.rank),
        "WORLD_SIZE": str(ranks.world_size),
        "LOCAL_RANK": str(ranks.local_rank),
        "LOCAL_WORLD_SIZE": str(ranks.local_world_size),
    }
    import deepspeed

    if device.type == "cpu":
        # Else the first collective on CPU compiles an extension: a minute, and a crash without g++.
        compatible = vars(deepspeed.ops).setdefault("__compatible_ops__", {})
        compatible["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo",
        auto_mpi_discovery=False,
        init_method=rendezvous and f"file://{rendezvous}",
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


def start(run: Run, model: nn.Module, device: torch.device) -> Any:
    """The DeepSpeed engine around a model on the CPU, with AdamW unless the user's file has one."""
    import deepspeed
    import torch

    config = deepspeed_config.complete(
        run.deepspeed,
        zero_stage=run.zero_stage,
        dtype=run.dtype,
        clipping=run.gradient_clipping,
        learning_rate=run.learning_rate,
        cpu=device.type == "cpu",
    )
    own = None
    if "optimizer" not in config:
        own = torch.optim.AdamW(
            model.parameters(), lr=run.learning_rate, weight_decay=run.weight_decay, fused=True
        )
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=list(model.parameters()),
        optimizer=own,
        config=config,
        dist_init_required=False,
    )
    if own is not None and run.dtype == "bf16" and engine.zero_optimization_stage() == 0:
        # DeepSpeed has taken a step of zeros here, which would count in the bias correction.
        own.state.clear()
    return engine


def norm_before_step(run: Run, engine: Any) -> float | None:
    """The global gradient norm where DeepSpeed clips by it but does not tell it: ZeRO-0, fp32.

    To be asked between the last backward pass and the step; None elsewhere.
    """
    if engine.zero_optimization_stage() > 0 or run.dtype == "bf16":
        return None
    import torch

    grads = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(grads))


def gather_weights(engine: Any, model: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """The weights by their names, whole, on the CPU of the ranks that `keep` them.

    Called by every rank: ZeRO-3 divides the weights among all.
    """
    import deepspeed

    divided = engine.zero_optimization_stage() == 3
    names = set(model.state_dict())
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=divided):
            if keep:
                found[name] = parameter.detach().to("cpu", copy=True)
    for name, buffer in model.named_buffers():
        if keep and name in names:
            found[name] = buffer.detach().to("cpu", copy=True)
    return found
