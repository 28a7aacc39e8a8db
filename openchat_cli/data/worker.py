"""One batch of candidates to verdicts: a pure function, and the child process that runs it.

A child speaks pickles over its stdin and stdout: it gets its settings and says READY, then each
batch is answered with a list of verdicts. It ends when its stdin does, so it never outlives its
parent.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import pickle
import signal
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from openchat_cli.core import jsonl
from openchat_cli.core.records import Conversation, Message
from openchat_cli.data import (
    converters,
    models,
    near,
    noise,
    pages,
    rules,
    saved_page,
    shapes,
    visible,
)
from openchat_cli.data.candidates import Candidate, RejectError
from openchat_cli.data.settings import CleanSettings, Converter

EXCERPT = 300  # characters of a dropped conversation that its verdict carries
LARGEST_PAGE = 1 << 28  # bytes; a page is held in memory whole, several times over
LONGEST_WORK = 600.0  # seconds of processor time for one candidate: the largest page needs less
READY = "ready"


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
    """What became of one candidate; a kept one has its row's line and the digest of its text.

    `blocked` is the blocked word that it says, dropped or not. `lengths` are the characters of a
    kept one's turns, questions and answers in turn; `excerpt` is the beginning of a dropped one's
    text; `signature` is there where near duplicates are looked for.
    """

    source: str
    where: str
    id: str | None
    reason: str | None
    detail: str
    digest: bytes = b""
    line: bytes = b""
    model: str | None = None
    notes: tuple[str, ...] = ()
    blocked: str | None = None
    lengths: tuple[int, ...] = ()
    excerpt: str = ""
    signature: bytes = b""


class Rules(NamedTuple):
    """What a worker must know of the settings; `blocked` words are folded."""

    converter: Converter
    blocked: tuple[str, ...]
    keep_blocked: bool = False
    near: bool = False


def rules_of(settings: CleanSettings) -> Rules:
    """The part of the settings that a worker must know."""
    words = tuple(filter(None, map(visible.folded, settings.blocked_words)))
    near_too = settings.near_dup is not None
    return Rules(settings.converter, words, settings.keep_blocked, near=near_too)


def work(settings: Rules, items: Sequence[Item]) -> list[Verdict]:
    """A verdict for each item.

    An item that takes more than LONGEST_WORK ends the process, as only the system can stop a
    regular expression; executors.survived finds out which one it was.
    """
    convert = converters.get(settings.converter)
    verdicts: list[Verdict] = []
    try:
        for item in items:
            _alarm(LONGEST_WORK)
            verdicts.append(_verdict(settings, item, convert))
    finally:
        _alarm(0)
    return verdicts


def _alarm(seconds: float) -> None:
    """Have the system end this process after that much work of its own; 0: never."""
    if hasattr(signal, "setitimer"):  # Windows has no such clock
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _verdict(settings: Rules, item: Item, convert: rules.Convert) -> Verdict:
    candidate = None
    try:
        candidate = _mended(_candidate(item))
        kept = rules.judge(candidate, convert, settings.blocked, keep_blocked=settings.keep_blocked)
        return _row(item, candidate, kept, near_dup=settings.near)
    except RejectError as error:
        return _rejected(item, candidate, error)
    except Exception as error:
        # One odd page must not end a run over a hundred thousand.
        detail = f"{type(error).__name__}: {error}"
        return _rejected(item, candidate, RejectError("failed", detail))


def _rejected(item: Item, candidate: Candidate | None, error: RejectError) -> Verdict:
    return Verdict(
        item.source,
        ", ".join(filter(None, (item.where, error.where))) or "file",
        candidate.id if candidate else error.id,
        error.reason,
        noise.mended(error.detail),
        blocked=error.word,
        excerpt=_excerpt(candidate, error) if candidate else "",
    )


def _excerpt(candidate: Candidate, error: RejectError) -> str:
    """The beginning of the turn in question, of the question before an empty answer, or of all."""
    number = int(error.where.removeprefix("turn ")) if error.where.startswith("turn ") else 1
    number -= error.reason == "empty_answer"
    turn = next(iter(candidate.turns[number - 1 : number]), None)
    if turn is None:
        return ""
    text = turn.text[: 4 * EXCERPT]
    if turn.form == "html":
        cut = text.rfind("<")
        if cut > text.rfind(">"):  # a tag that was cut in two is no text
            text = text[:cut]
        text = visible.of_html(text)
    return noise.mended(" ".join(text.split()))[:EXCERPT]


def _candidate(item: Item) -> Candidate:
    if item.problem is not None:
        raise RejectError(*item.problem)
    data = _read(item.path) if item.data is None else item.data
    if item.kind == "page":
        return saved_page.from_page(data)
    return shapes.from_json(pages.parse_json(data))


def _mended(candidate: Candidate) -> Candidate:
    """The same with whole characters in what is no turn; those of the turns are counted."""
    name, model, condition = candidate.id, candidate.model, candidate.condition
    labels = (name, model, condition)
    if all(label is None or (isinstance(label, str) and label.isascii()) for label in labels):
        return candidate
    return dataclasses.replace(
        candidate,
        id=name and noise.mended(name),
        model=noise.mended(model) if isinstance(model, str) else model,
        condition=condition and noise.mended(condition),
    )


def loaded(item: Item) -> Item:
    """The same item with the bytes of its file, for a worker that can't see the file."""
    if item.data is not None or item.problem is not None:
        return item
    try:
        return item._replace(data=_read(item.path), path="")
    except RejectError as error:
        return item._replace(path="", problem=(error.reason, error.detail))


def _read(path: str) -> bytes:
    try:
        if path.lower().endswith(".gz"):
            with gzip.open(path) as packed:
                data: bytes = packed.read(LARGEST_PAGE + 1)
        else:
            with open(path, "rb", 0) as stream:  # noqa: PTH123 (a third less, for each page)
                large = os.fstat(stream.fileno()).st_size > LARGEST_PAGE
                data = stream.read(LARGEST_PAGE + 1 if large else -1)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RejectError("unreadable", reason) from None
    if len(data) > LARGEST_PAGE:
        raise RejectError("unreadable", f"larger than {LARGEST_PAGE >> 20} MiB")
    return data


def _row(item: Item, candidate: Candidate, kept: rules.Kept, *, near_dup: bool) -> Verdict:
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
    line = _line(row)
    return Verdict(
        item.source,
        item.where,
        row.id,
        None,
        "",
        digest,
        line,
        model,
        notes,
        kept.blocked,
        lengths=tuple(len(one.content) for one in kept.messages if one.role != "system"),
        signature=near.signature(kept.messages) if near_dup else b"",
    )


def _line(row: Conversation) -> bytes:
    """The row's JSON; what the quick writer would write otherwise goes the usual way."""
    import orjson

    if row.weight == 1.0 and all(message.weight is None for message in row.messages):
        try:
            return orjson.dumps(row.to_row(), option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:
            pass  # half a surrogate pair in a name: escaped below
    return jsonl.line(row.to_row())


def _digest(messages: Sequence[Message]) -> bytes:
    """xxh3-128 over roles and texts, each with its length, so that no two splits are alike."""
    import xxhash

    parts: list[bytes] = []
    for message in messages:
        text = message.content.encode()
        parts += f"{message.role}\0{len(text)}\0".encode(), text
    return xxhash.xxh3_128_digest(b"".join(parts))


def main() -> None:
    """The child process."""
    source = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    try:
        settings: Rules = pickle.load(source)
        converters.get(settings.converter)
        answer: object = READY
        while True:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
            answer = work(settings, pickle.load(source))
    except (EOFError, BrokenPipeError):
        # The parent is done, or gone.
        os._exit(0)
