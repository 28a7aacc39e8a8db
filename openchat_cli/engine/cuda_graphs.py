"""The engine's forward passes on a GPU: decode steps recorded as CUDA graphs and replayed.

One decode step of a 7B model is about a thousand kernels, most of them shorter than the time that
Python takes to launch one. A graph launches them all at once, but at fixed addresses and shapes:
see cuda_step.py. Prompts are read without graphs; their kernels are long.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.engine import cuda_sampling
from openchat_cli.engine.cuda_step import (
    Inputs,
    StaticStep,
    batch_sizes,
    capacity,
    first_that_holds,
    widths,
)
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.sampling import RowSampler

log = logging.getLogger("openchat.engine")

# Each graph keeps some megabytes of the device; the one used longest ago makes room.
_MOST_GRAPHS = 96

Work = Callable[[], Tensor]


class Capture(Protocol):
    """Makes of some work what does it again, from and to the same tensors."""

    def __call__(self, work: Work) -> Work: ...


def eager(work: Work) -> Work:
    """No recording: the work itself, run anew each time (what tests without a GPU do)."""
    return work


class CudaGraphs:
    """Records work as CUDA graphs that share one pool of memory.

    Sharing is safe where no replay's result is read after the next replay.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        with torch.cuda.device(self._device):
            self._rehearse(work)
            graph = torch.cuda.CUDAGraph()
            # Only this thread is watched: others may use the device meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                made = work()

        def replay() -> Tensor:
            graph.replay()
            return made

        return replay

    def _rehearse(self, work: Work) -> None:
        """Run the work once beside the main stream: libraries set themselves up the first time, and
        that may not be recorded.
        """
        here = torch.cuda.current_stream()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # theirs has no types
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            work()
        here.wait_stream(aside)


class GraphRunner(Runner):
    """A runner whose decode steps are recorded once for each size of batch and context, then
    replayed. `capture` is CUDA's, or `eager`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        slots: int,
        context: int,
        vocab_size: int,
        capture: Capture,
        most_graphs: int = _MOST_GRAPHS,
    ) -> None:
        room = capacity(context)
        super().__init__(model, slots=slots, context=room, vocab_size=vocab_size)
        self.context = context
        self._batches, self._widths = batch_sizes(slots), widths(context)
        self._inputs = Inputs(slots, room, self.device)
        self._capture = capture
        self._most_graphs = most_graphs
        self._graphs: OrderedDict[tuple[int, int], Work] = OrderedDict()

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """As Runner's; the logits are only good until the next step."""
        size = (
            first_that_holds(self._batches, len(tokens)),
            first_that_holds(self._widths, max(lengths) + 1),
        )
        self._inputs.fill(tokens, lengths)
        return self._recorded(size)()[: len(tokens)]

    def sample(self, logits: Tensor, rows: Sequence[RowSampler]) -> list[int | None]:
        """As Runner's, waiting for the device once."""
        return cuda_sampling.sample(logits, rows)

    def warm_up(self, *, progress: Progress = SILENT) -> None:
        """Record the steps for every size of batch at the shortest context; the rest as they come.

        Without this the first requests would wait for it.
        """
        with (
            torch.inference_mode(),
            progress.task("recording CUDA graphs", len(self._batches), "graphs") as task,
        ):
            # From the largest, whose memory the smaller ones then use.
            for batch in reversed(self._batches):
                self._inputs.fill([], [])
                self._recorded((batch, self._widths[0]))()
                task.advance()

    def _recorded(self, size: tuple[int, int]) -> Work:
        if size in self._graphs:
            self._graphs.move_to_end(size)
            return self._graphs[size]
        if len(self._graphs) >= self._most_graphs:
            self._graphs.popitem(last=False)
        self._graphs[size] = found = self._record(size)
        return found

    def _record(self, size: tuple[int, int]) -> Work:
        batch, width = size

        def work() -> Tensor:
            step = StaticStep(self._inputs, batch, width, self.model.dtype, self._window)
            return self.logits(self._hidden(step)[:, 0])

        try:
            return self._capture(work)
        except RuntimeError as error:
            # Slower, but right: some kernel of this model or this torch can't be recorded.
            reason = str(error).splitlines()[0]
            log.warning("no CUDA graph for %d rows of %d positions: %s", batch, width, reason)
            return work
