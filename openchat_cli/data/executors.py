"""Who does the work on a shard: what `data clean` asks of an executor, and how work is survived.

An executor takes a batch and promises its verdicts. pool.py has one for this machine,
ray_executor.py one for several; shards.py keeps the order and what is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from openchat_cli.core.errors import UsageError, need
from openchat_cli.core.progress import Progress
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.worker import Item, Rules, Verdict

Promise = Callable[[], list[Verdict]]
Run = Callable[[Sequence[Item]], list[Verdict]]

_TRIES = 2


class Executor(Protocol):
    """Where batches are worked on; `ahead` are worth having under way at once."""

    ahead: int

    def submit(self, batch: Sequence[Item]) -> Promise:
        """Begin a batch; calling what is given back waits for its verdicts."""


class DiedError(Exception):
    """A process ended in the middle of a batch; `surely` it would do so again."""

    def __init__(self, surely: bool = False) -> None:
        super().__init__()
        self.surely = surely


def survived(run: Run, batch: Sequence[Item]) -> list[Verdict]:
    """The verdicts on a batch even where working on it kills processes.

    `run` raises DiedError then. A death may come from outside, so the batch is done again; if that
    fails too, each item is done by itself, and the one that ends its process again is dropped. So
    what kills is found for any number of workers alike, and costs nobody else the place.
    """
    for _ in range(_TRIES):
        try:
            return run(batch)
        except DiedError as death:
            if death.surely:
                break
    if len(batch) == 1:
        (item,) = batch
        detail = "the worker process died on it"
        return [Verdict(item.source, item.where, None, "failed", detail)]
    return [verdict for item in batch for verdict in survived(run, [item])]


def check(settings: CleanSettings) -> None:
    """Raise UsageError for an executor that can't work here."""
    if settings.executor == "ray":
        need("--executor ray", "ray", "ray")
    elif settings.ray_address:
        raise UsageError("--ray-address is for --executor ray")


def start(
    settings: CleanSettings, rules: Rules, progress: Progress
) -> AbstractContextManager[Executor]:
    """The executor that the settings ask for."""
    if settings.executor == "ray":
        from openchat_cli.data.ray_executor import RayExecutor

        return RayExecutor(settings.ray_address, settings.workers, rules, progress)
    from openchat_cli.data.pool import Pool, cores

    return Pool(settings.workers or cores(), rules, progress)
