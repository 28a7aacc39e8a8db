"""Running asynchronous work from a stage, and many pieces of it at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """`asyncio.run` that also ends cleanly by SIGTERM, as asyncio itself does by SIGINT.

    A handler that raises inside the loop's own code would see its exception logged and forgotten:
    here the work is cancelled first, and the handler is called once the loop has ended.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        return asyncio.run(work)
    terminated = False

    async def watched() -> ResultT:
        task = asyncio.current_task()

        def stop() -> None:
            nonlocal terminated
            terminated = True
            if task is not None:
                task.cancel()

        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await work

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if terminated:
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


async def spread(
    items: Iterable[ItemT], work: Callable[[ItemT], Awaitable[None]], workers: int
) -> None:
    """Run `work` on every item, at most `workers` at a time; the first exception stops all.

    Items are taken one by one as workers get free, so that memory does not grow with their number.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.create_task(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
