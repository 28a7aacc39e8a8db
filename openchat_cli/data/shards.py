"""The input cut into shards, and finished shards kept on the disk until the run is done.

Where the cuts are depends on the input alone, so a run with other workers, or on other machines,
has the same shards. A finished one is a file in OUT/.clean, named by everything that its verdicts
depend on: a run that was ended, however it was, is continued by the same command, and what changed
in between is worked on anew.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from openchat_cli.core import jsonl
from openchat_cli.core.errors import OpenChatError
from openchat_cli.data.executors import Executor, Promise
from openchat_cli.data.worker import Item, Rules, Verdict

# What reads odd pages, the other converter, and what finds near duplicates.
_LIBRARIES = ("beautifulsoup4", "html2text", "datasketch")
_ITEMS = 128
_BYTES = 4 << 20
_DIGEST = 16  # bytes of a shard file's head: the xxh3-128 of the rest


class Shard(NamedTuple):
    """A piece of the input; `key` is a digest of it, of the settings and of the program."""

    key: str
    items: list[Item]


def cut(items: Iterable[Item], settings: Rules) -> Iterator[Shard]:
    """The input in pieces of 128 candidates or 4 MiB, whichever is reached first."""
    import xxhash

    start = f"{program()} {libraries()} {sys.version} {settings!r}".encode()
    shard: list[Item] = []
    size = 0
    state = xxhash.xxh3_128(start)
    for item in items:
        length, stamp = _stamp(item)
        state.update(f"\0{item._replace(data=None)!r}{stamp}".encode("utf-8", "surrogatepass"))
        shard.append(item)
        size += length
        if len(shard) >= _ITEMS or size >= _BYTES:
            yield Shard(state.hexdigest(), shard)
            shard, size, state = [], 0, xxhash.xxh3_128(start)
    if shard:
        yield Shard(state.hexdigest(), shard)


def _stamp(item: Item) -> tuple[int, str]:
    """How large an item is, and what tells its content from another."""
    import xxhash

    if item.data is not None:
        return len(item.data), xxhash.xxh3_128_hexdigest(item.data)
    if not item.path:
        return 0, ""
    try:
        found = os.stat(item.path)  # noqa: PTH116 (twice as fast, for each of 100,000 pages)
    except OSError as error:
        return 0, str(error.errno)
    return found.st_size, f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


@functools.cache
def program() -> str:
    """Which program this is: a digest of the code that verdicts depend on."""
    import xxhash

    package = Path(__file__).parent.parent
    state = xxhash.xxh3_128()
    for folder in ("core", "data"):
        for path in sorted((package / folder).glob("*.py")):
            state.update(path.read_bytes())
    return state.hexdigest()


@functools.cache
def libraries() -> tuple[str, ...]:
    """The versions of the libraries that verdicts depend on; "" for one that is not there."""
    from importlib import metadata

    found = dict.fromkeys(_LIBRARIES, "")
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return tuple(found.values())


def verdicts(
    shards: Iterable[Shard], executor: Executor, store: Store | None = None
) -> Iterator[list[Verdict]]:
    """The verdicts on each shard, in their order; those in the store are not worked out again."""
    waiting: deque[tuple[str, bool, Promise]] = deque()

    def first() -> list[Verdict]:
        key, known, promise = waiting.popleft()
        found = promise()
        if store is not None and not known:
            store.put(key, found)
        return found

    for key, items in shards:
        found = store.get(key) if store is not None else None
        promise = executor.submit(items) if found is None else functools.partial(_same, found)
        waiting.append((key, found is not None, promise))
        if len(waiting) >= executor.ahead:
            yield first()
    while waiting:
        yield first()


def _same(found: list[Verdict]) -> list[Verdict]:
    return found


class Store:
    """A folder of finished shards; `reused` and `added` count what was read and written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reused = self.added = 0

    def get(self, key: str) -> list[Verdict] | None:
        """The verdicts on a finished shard; None where there are none, or not whole."""
        import xxhash

        try:
            data = (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None
        if data[:_DIGEST] != xxhash.xxh3_128_digest(data[_DIGEST:]):
            return None
        try:
            found: list[Verdict] = _Reader(io.BytesIO(data[_DIGEST:])).load()
        except pickle.UnpicklingError:
            return None
        self.reused += 1
        return found

    def put(self, key: str, found: list[Verdict]) -> None:
        """Keep the verdicts on a shard; they are on the disk when this returns."""
        import xxhash

        data = pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
        try:
            with jsonl.atomic_output(self.folder / key) as stream:
                stream.write(xxhash.xxh3_128_digest(data) + data)
        except OpenChatError as error:
            hint = "what is finished is kept: the same command goes on when there is room"
            raise OpenChatError(error.message, hint) from error
        self.added += 1


class _Reader(pickle.Unpickler):
    """Reads verdicts and nothing else: a folder may come from anywhere."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) != (Verdict.__module__, Verdict.__qualname__):
            raise pickle.UnpicklingError(f"{module}.{name} has no place among verdicts")
        return Verdict
