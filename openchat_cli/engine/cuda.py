"""Starting on a GPU: measure, divide the memory into slots, record the first graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from openchat_cli.core.progress import Progress
from openchat_cli.engine import cuda_layers, cuda_sampling
from openchat_cli.engine.cache import Span
from openchat_cli.engine.cuda_graphs import Capture, CudaGraphs, GraphRunner
from openchat_cli.engine.cuda_memory import Memory, measure, slots_that_fit
from openchat_cli.engine.cuda_step import capacity
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.sampling import RowSampler
from openchat_cli.engine.settings import GPU_SLOTS, EngineSettings, SamplingParams

Measure = Callable[[torch.device, Callable[[], object]], Memory]


def start(
    model: PreTrainedModel,
    settings: EngineSettings,
    *,
    context: int,
    vocab_size: int,
    progress: Progress,
    measure: Measure = measure,
    capture: Callable[[torch.device], Capture] = CudaGraphs,
) -> GraphRunner:
    """A runner with as many slots as the device's memory holds, up to the settings'.

    `measure` and `capture` are CUDA's unless a test brings others. Raises UsageError where not one
    request fits.
    """
    cuda_layers.fuse(model)
    asked = max(settings.max_slots or GPU_SLOTS, settings.max_concurrency or 0)
    probe = Runner(
        model, slots=1, context=min(context, settings.prefill_tokens), vocab_size=vocab_size
    )
    memory = measure(model.device, lambda: _largest_step(probe, asked))
    slots = slots_that_fit(
        memory,
        utilization=settings.gpu_memory_utilization,
        asked=asked,
        context=capacity(context),
        token_bytes=probe.token_bytes,
    )
    runner = GraphRunner(
        model,
        slots=slots,
        context=context,
        vocab_size=vocab_size,
        capture=capture(model.device),
    )
    runner.warm_up(progress=progress)
    return runner


def _largest_step(runner: Runner, rows: int) -> None:
    """As much as one step ever reads, and as many tokens drawn as there may be rows."""
    with torch.inference_mode():
        hidden = runner.prefill([Span(0, 0, [0] * runner.context)])[0]
        rows = min(rows, len(hidden))
        logits = runner.logits(hidden[:rows])
        cuda_sampling.sample(logits, [RowSampler(SamplingParams(top_p=1.0))] * rows)
