"""One batch of candidates to verdicts: a pure function, and the child process that runs it.

A child speaks pickles over its stdin and stdout: first its settings, then batches, each answered
with a list of verdicts. It ends when its stdin does, so it never outlives its parent.
"""

from __future__ import annotations

import gzip
import os
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from openchat_cli.core import jsonl
from openchat_cli.core.records import Conversation, Message
from openchat_cli.data import converters, models, pages, rules, saved_page, shapes
from openchat_cli.data.candidates import Candidate, RejectError
from openchat_cli.data.settings import Converter

LARGEST_PAGE = 1 << 28  # bytes; a page is held in memory whole, several times over


class Item(NamedTuple):
    """One candidate as it travels to a worker.

    `kind` page or json: `data` holds the bytes, or is None and the worker reads `path`. A `problem`
    (reason, detail) was met on the way already.
    """

    source: str
    where: str
    kind: str
    data: bytes | None = None
    path: str = ""
    problem: tuple[str, str] | None = None


class Verdict(NamedTuple):
    """What became of one candidate; a kept one has its row's line and the digest of its text."""

    source: str
    where: str
    id: str | None
    reason: str | None
    detail: str
    digest: bytes = b""
    line: bytes = b""
    model: str | None = None
    notes: tuple[str, ...] = ()


class Rules(NamedTuple):
    """What a worker must know of the settings."""

    converter: Converter
    blocked: tuple[str, ...]


def work(settings: Rules, items: Sequence[Item]) -> list[Verdict]:
    """A verdict for each item."""
    convert = converters.get(settings.converter)
    verdicts: list[Verdict] = []
    for item in items:
        name = None
        try:
            candidate = _candidate(item)
            name = candidate.id
            kept = rules.judge(candidate, convert, settings.blocked)
            verdicts.append(_row(item, candidate, kept))
        except RejectError as error:
            where = ", ".join(filter(None, (item.where, error.where)))
            verdicts.append(Verdict(item.source, where, name, error.reason, error.detail))
    return verdicts


def _candidate(item: Item) -> Candidate:
    if item.problem is not None:
        raise RejectError(*item.problem)
    data = _read(item.path) if item.data is None else item.data
    if item.kind == "page":
        return saved_page.from_page(data)
    return shapes.from_json(pages.parse_json(data))


def _read(path: str) -> bytes:
    try:
        with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as stream:
            data: bytes = stream.read(LARGEST_PAGE + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RejectError("unreadable", reason) from None
    if len(data) > LARGEST_PAGE:
        raise RejectError("unreadable", f"larger than {LARGEST_PAGE >> 20} MiB")
    return data


def _row(item: Item, candidate: Candidate, kept: rules.Kept) -> Verdict:
    digest = _digest(kept.messages)
    notes = kept.notes
    first = next(message.content for message in kept.messages if message.role == "user")
    model = models.credible(candidate.model, first)
    if model is None:
        notes += ("no_model",) if candidate.model in (None, "") else ("odd_model",)
    row = Conversation(
        id=candidate.id or digest.hex(),
        source=item.source,
        messages=kept.messages,
        model=model,
        language=candidate.language,
        condition=candidate.condition,
        weight=candidate.weight,
    )
    line = jsonl.dumps(row.to_row()).encode() + b"\n"
    return Verdict(item.source, item.where, row.id, None, "", digest, line, model, notes)


def _digest(messages: Sequence[Message]) -> bytes:
    """xxh3-128 over roles and texts, each with its length, so that no two splits are alike."""
    import xxhash

    state = xxhash.xxh3_128()
    for message in messages:
        text = message.content.encode()
        state.update(f"{message.role}\0{len(text)}\0".encode() + text)
    return state.digest()


def main() -> None:
    """The child process."""
    source = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    try:
        settings: Rules = pickle.load(source)
        while True:
            verdicts = work(settings, pickle.load(source))
            pickle.dump(verdicts, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):
        # The parent is done, or gone.
        os._exit(0)
