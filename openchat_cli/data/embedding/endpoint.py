"""Vectors from an OpenAI-compatible endpoint: in batches, recorded as they come.

A batch that the endpoint refuses is halved until it goes through; a single text that is too long
for the model is halved too. What is refused even then is reported and left out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openchat_cli.core import loop
from openchat_cli.core.client import Call, CallError, Client, EndpointError
from openchat_cli.core.endpoint import Endpoint
from openchat_cli.core.faults import UnusableError
from openchat_cli.core.progress import Progress, Task
from openchat_cli.data.embedding.journal import VectorJournal

if TYPE_CHECKING:
    from openchat_cli.data.embedding.local import Vectors

PRICES_OF = "2025-08"  # when the table below was written down
# US dollars for a million tokens, OpenAI's list prices.
_PRICES: Mapping[str, float] = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
_BATCH_CHARACTERS = 200_000  # in one call; OpenAI takes 300,000 tokens
_HALVINGS = 6  # of one text that is too long
_HOPELESS = 3  # texts refused one by one before anything succeeded
_TOO_LONG = re.compile(r"context|length|too (?:long|large|many)|tokens|maximum", re.IGNORECASE)
_REFUSED = re.compile(r"HTTP 4(?:00|13|22)\b|vectors for")


def price_of(model: str) -> float | None:
    """US dollars for one token; None where the table lacks the model."""
    found = _PRICES.get(model)
    return None if found is None else found / 1e6


@dataclass(frozen=True)
class Remote:
    """A model behind a URL; `dimensions` asks it for shorter vectors."""

    endpoint: Endpoint
    model: str
    dimensions: int | None
    batch_size: int

    def key(self, text: str) -> str:
        """The journal's key of a text: equal keys, equal requests."""
        parts = [self.endpoint.url, self.model, self.dimensions, text]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass
class Asked:
    """What became of the texts: refusals by key, calls made in this run, texts cut by halving."""

    failed: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    shortened: int = 0


def batches(remote: Remote, wanted: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    """The (key, text) pairs by calls: at most batch_size texts and 200,000 characters each."""
    batch: list[tuple[str, str]] = []
    size = 0
    for pair in wanted.items():
        full = len(batch) == remote.batch_size or size + len(pair[1]) > _BATCH_CHARACTERS
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += len(pair[1])
    if batch:
        yield batch


def ask(
    remote: Remote,
    wanted: Mapping[str, str],
    journal: VectorJournal,
    dims: int | None,
    *,
    progress: Progress,
) -> Asked:
    """Have the vector of every wanted text (key -> text) in the journal, as far as it can be had.

    `dims` is how many numbers the vectors have that are there already. Raises EndpointError where
    no call can succeed.
    """
    asking = _Asking(remote, journal, dims)
    with progress.task("embed", total=len(wanted), unit="texts") as task:
        loop.run(asking.all(wanted, task, progress))
    return asking.asked


class _Asking:
    def __init__(self, remote: Remote, journal: VectorJournal, dims: int | None) -> None:
        self._remote, self._journal, self._dims = remote, journal, dims
        self._most = remote.batch_size  # texts in a call, as far as the endpoint has shown
        self._succeeded = False
        self.asked = Asked()

    async def all(self, wanted: Mapping[str, str], task: Task, progress: Progress) -> None:
        async def work(batch: list[tuple[str, str]]) -> None:
            await self._embed(batch)
            task.advance(len(batch))

        async with Client(self._remote.endpoint, self._remote.model, progress=progress) as client:
            self._client = client
            workers = self._remote.endpoint.concurrency
            await loop.spread(batches(self._remote, wanted), work, workers)

    async def _embed(self, batch: list[tuple[str, str]]) -> bool:
        """Whether every text of the batch now has its vector."""
        if len(batch) > self._most:
            return await self._halves(batch)
        try:
            await self._call([key for key, _ in batch], [text for _, text in batch])
        except CallError as error:
            reason = str(error)
            if not _REFUSED.search(reason):
                self._fail([key for key, _ in batch], reason)
                return False
            if len(batch) > 1:
                done = await self._halves(batch)
                if done:  # the texts were all right, only too many of them
                    self._most = min(self._most, (len(batch) + 1) // 2)
                return done
            return await self._shorter(*batch[0], reason)
        return True

    async def _halves(self, batch: list[tuple[str, str]]) -> bool:
        middle = (len(batch) + 1) // 2
        first = await self._embed(batch[:middle])
        return await self._embed(batch[middle:]) and first

    async def _shorter(self, key: str, text: str, reason: str) -> bool:
        """One text that was refused: halved while the endpoint calls it too long."""
        for _ in range(_HALVINGS):
            text = text[: len(text) // 2]
            if not (text.strip() and _TOO_LONG.search(reason)):
                break
            try:
                await self._call([key], [text])
            except CallError as error:
                reason = str(error)
            else:
                self.asked.shortened += 1
                return True
        self._fail([key], reason)
        return False

    def _fail(self, keys: Sequence[str], reason: str) -> None:
        self.asked.failed.update(dict.fromkeys(keys, reason))
        if not self._succeeded and len(self.asked.failed) >= _HOPELESS:
            where = f"{self._remote.model} at {self._remote.endpoint.url}"
            raise EndpointError(f"{where}: {reason}", "is this a model for embeddings?")

    async def _call(self, keys: Sequence[str], texts: Sequence[str]) -> None:
        fields: dict[str, Any] = {"input": list(texts)}
        if self._remote.dimensions is not None:
            fields["dimensions"] = self._remote.dimensions

        def read(found: object) -> tuple[Vectors, int]:
            return _vectors(found, count=len(texts), dims=self._dims)

        vectors, tokens = await self._client.deliver(Call("/embeddings", fields, read))
        self._dims = int(vectors.shape[1])
        await asyncio.to_thread(self._journal.append, keys, vectors, tokens)
        self._succeeded = True
        self.asked.calls += 1


# --- what came back ---


def _vectors(found: object, *, count: int, dims: int | None) -> tuple[Vectors, int]:
    """The vectors in the order of the texts, and the tokens billed."""
    import numpy as np

    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(data, list):
        raise UnusableError("the reply holds no list of vectors")
    if len(data) != count:
        raise UnusableError(f"{len(data)} vectors for {count} texts", final=True)
    rows = [_numbers(item) for item in _ordered(data)]
    sizes = {len(row) for row in rows}
    if dims is not None and len(sizes) == 1 and sizes != {dims}:
        raise UnusableError(
            f"vectors of {len(rows[0])} numbers after earlier ones of {dims}: does another model "
            "answer by that name now? --dimensions asks for one length, a new OUT begins anew",
            final=True,
        )
    if len(sizes) != 1 or 0 in sizes:
        said = ", ".join(map(str, sorted(sizes)))
        raise UnusableError(f"vectors of different lengths ({said} numbers)", final=True)
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all():
        raise UnusableError("a vector holds numbers that are not finite")
    return vectors, _tokens(found.get("usage"))


def _ordered(data: list[Any]) -> list[dict[str, Any]]:
    """By `index`, which need not be the order of the reply; as they came where there is none."""
    if not all(isinstance(item, dict) for item in data):
        raise UnusableError("the reply's vectors have another shape")
    places = [item.get("index", place) for place, item in enumerate(data)]
    if sorted(places, key=str) != sorted(range(len(data)), key=str):
        raise UnusableError("the reply's vectors are not numbered 0, 1, 2 …")
    return [item for _, item in sorted(zip(places, data, strict=True), key=lambda pair: pair[0])]


def _numbers(item: Mapping[str, Any]) -> Any:
    """One vector, from a list of numbers or from base64 of little-endian float32."""
    import numpy as np

    value = item.get("embedding")
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        if isinstance(value, list):
            row = np.asarray(value, dtype=np.float32)
            if row.ndim == 1:
                return row
    except (ValueError, TypeError, binascii.Error):
        pass
    raise UnusableError("a vector is neither a list of numbers nor base64")


def _tokens(usage: object) -> int:
    found = usage.get("prompt_tokens", usage.get("total_tokens")) if isinstance(usage, dict) else 0
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
