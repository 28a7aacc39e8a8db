"""`data convert`: conversations to token ids and masks, in the shape of the original.

`T.train.json` and `T.eval.json` are `[[token_ids, supervise_mask], …]`, the `.text.json` beside
them lists of strings, `T.dataset.json` says how they were made. Rows are tokenised once, in
batches, into a spool beside the outputs; the split is known only when all have been counted.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from openchat_cli.core import jsonl, records, templates
from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Conversation, Dropped, Message
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer, read_manifest, resolve_type
from openchat_cli.data import split
from openchat_cli.data.clean import CONVERSATIONS
from openchat_cli.data.filter import FILTERED, rows_file
from openchat_cli.data.settings import ConvertSettings
from openchat_cli.model import hub

_BATCH = 64  # conversations whose texts are tokenised together


@dataclass
class ConvertSummary:
    """What was written, and the lengths that training will meet."""

    model_type: str
    read: int = 0
    train: int = 0
    eval: int = 0
    truncated: int = 0
    dropped: int = 0
    tokens: int = 0
    supervised: int = 0
    outputs: tuple[Path, ...] = ()


@dataclass
class _Spool:
    """Tokenised rows on disk, with where each begins: a row is its JSON, then its text's JSON."""

    file: IO[bytes]
    starts: array[int] = field(default_factory=lambda: array("Q"))
    texts: array[int] = field(default_factory=lambda: array("Q"))
    ranks: list[int] = field(default_factory=list)
    lengths: array[int] = field(default_factory=lambda: array("L"))
    size: int = 0

    def add(self, rank: int, ids: list[int], mask: list[bool], text: str) -> None:
        row = json.dumps([ids, mask], separators=(",", ":")).encode()
        shown = jsonl.dumps(text).encode()
        self.file.write(row)
        self.file.write(shown)
        self.starts.append(self.size)
        self.texts.append(self.size + len(row))
        self.size += len(row) + len(shown)
        self.ranks.append(rank)
        self.lengths.append(len(ids))

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """(ids and mask, text) of each row, both as JSON."""
        self.file.seek(0)
        for index, start in enumerate(self.starts):
            end = self.starts[index + 1] if index + 1 < len(self.starts) else self.size
            yield (
                self.file.read(self.texts[index] - start),
                self.file.read(end - self.texts[index]),
            )


def convert(settings: ConvertSettings, *, progress: Progress = SILENT) -> ConvertSummary:
    """Convert for one model type; see the module for the files.

    Raises InputError for rows that can't be rendered, for weights that JSON can't carry, and where
    fewer than two conversations have something to learn; UsageError for settings that can't work.
    """
    if not 0 <= settings.eval_ratio < 1:
        raise UsageError("--eval-ratio must be at least 0 and below 1")
    if settings.output == jsonl.STDIO:
        raise UsageError("data convert writes several files: OUT must be a folder")
    if settings.context is not None and settings.context < 1:
        raise UsageError("--context must be at least 1")
    kind = resolve_type(
        settings.model_type, model_path=settings.model_path, model_file=settings.model_file
    )
    source = rows_file(settings.input, FILTERED, CONVERSATIONS)
    rows = records.read(source, Conversation)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: holds no conversations")
    outputs = outputs_of(settings.output, kind)
    *parts, dropped_path, manifest_path = outputs
    folder = settings.model_path or tokenizer_folder(kind, progress)
    tokenizer = load_tokenizer(folder, kind, compat=settings.compat)
    context = settings.context or _context(folder, kind)
    jsonl.claim(outputs, force=settings.force)
    summary = ConvertSummary(kind.name)
    job = _Job(settings, kind, tokenizer, context, source, summary)
    with ExitStack() as stack:
        spool = _Spool(stack.enter_context(_temporary(settings.output)))
        dropped = stack.enter_context(jsonl.atomic_output(dropped_path))
        with progress.task(f"convert {kind.name}", unit="conversations") as task:
            for batch in _batched(itertools.chain([first], rows)):
                job.tokenize(batch, spool, dropped)
                task.advance(len(batch))
        held_out = job.choose(spool)
        streams = [stack.enter_context(jsonl.atomic_output(path)) for path in parts]
        _write(spool, held_out, streams)
        manifest = job.manifest(spool)
    jsonl.write_json(manifest_path, manifest)
    summary.outputs = outputs
    return summary


def outputs_of(folder: Path, kind: ModelType) -> tuple[Path, ...]:
    """The files that a conversion writes: four parts, what was dropped, the manifest."""
    parts = ("train.json", "eval.json", "train.text.json", "eval.text.json")
    names = (*parts, "dropped.jsonl", "dataset.json")
    return tuple(folder / f"{kind.name}.{name}" for name in names)


def tokenizer_folder(kind: ModelType, progress: Progress) -> Path:
    """The tokeniser of the type's base model from the hub's cache, else downloaded."""
    base = Path(kind.base)
    found = hub.find(base, tokenizer_only=True)
    return found or hub.fetch(hub.plan(base, tokenizer_only=True), progress=progress)


def _context(folder: Path, kind: ModelType) -> int:
    manifest = read_manifest(folder)
    return kind.context if manifest is None else manifest.context


def _temporary(folder: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder, prefix=".spool.")
    except OSError as error:
        raise OpenChatError(f"{folder}: can't be written ({error.strerror})") from None


def _batched(rows: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch


class _Prepared:
    """A tokeniser that has the ids of a batch's texts already; satisfies templates.Tokenizer."""

    def __init__(self, tokenizer: ChatTokenizer, texts: Iterable[str]) -> None:
        self.bos_id, self.eot_id = tokenizer.bos_id, tokenizer.eot_id
        distinct = list(dict.fromkeys(texts))
        self._ids = dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))

    def encode(self, text: str) -> list[int]:
        return self._ids[text]


@dataclass
class _Job:
    settings: ConvertSettings
    kind: ModelType
    tokenizer: ChatTokenizer
    context: int
    source: Path
    summary: ConvertSummary

    def tokenize(self, batch: Sequence[Conversation], spool: _Spool, dropped: BinaryIO) -> None:
        """Render a batch into the spool; what has nothing left to learn goes to `dropped`."""
        for row in batch:
            _refuse_weights(self.source, row)
        folded = [templates.fold_system(self.kind, row.messages) for row in batch]
        prepared = _Prepared(self.tokenizer, self._texts(folded))
        for row, messages in zip(batch, folded, strict=True):
            self.summary.read += 1
            rendered = self._render(row, messages, prepared)
            ids, mask = rendered.ids[: self.context], rendered.mask[: self.context]
            learned = sum(mask)
            if learned:
                self.summary.truncated += len(rendered.ids) > self.context
                self.summary.tokens += len(ids)
                self.summary.supervised += learned
                rank = split.rank(self.settings.seed, row.id)
                spool.add(rank, ids, mask, self.tokenizer.decode(ids))
            else:
                self.summary.dropped += 1
                self._drop(row, len(rendered.ids), dropped)

    def _texts(self, conversations: Iterable[Sequence[Message]]) -> Iterator[str]:
        yield from self.kind.roles.values()
        for messages in conversations:
            for message in messages:
                yield message.content

    def _render(
        self, row: Conversation, messages: Sequence[Message], prepared: _Prepared
    ) -> templates.Rendered:
        try:
            return templates.render(self.kind, prepared, messages)
        except InputError as error:
            message = f"{self.source}: conversation {row.id}: {error.message}"
            raise InputError(message, error.hint) from None

    def _drop(self, row: Conversation, length: int, dropped: BinaryIO) -> None:
        detail = f"{length} tokens, context {self.context}"
        entry = Dropped(row.id, row.source, "", "nothing_supervised", None, detail)
        dropped.write(jsonl.dumps(entry.to_row()).encode() + b"\n")

    def choose(self, spool: _Spool) -> set[int]:
        """The rows that are held out; InputError where nothing would be left to train on."""
        total = len(spool.ranks)
        count = split.held_out_count(total, self.settings.eval_ratio)
        if count >= total:
            raise InputError(
                f"{self.source}: {total} of {self.summary.read} conversations have something to "
                f"learn within {self.context} tokens, and {count} would be held out",
                "at least one must be left to train on",
            )
        self.summary.eval, self.summary.train = count, total - count
        return split.held_out(spool.ranks, count)

    def manifest(self, spool: _Spool) -> dict[str, Any]:
        """`T.dataset.json`: everything `train` must know to refuse a dataset that does not fit."""
        summary, tokenizer = self.summary, self.tokenizer
        return {
            "kind": "dataset",
            "version": 1,
            "model_type": self.kind.name,
            "context": self.context,
            "template_hash": templates.template_hash(self.kind),
            "tokenizer_hash": tokenizer.hash,
            "compat": self.settings.compat,
            "bos_id": tokenizer.bos_id,
            "eot_id": tokenizer.eot_id,
            "vocab_size": tokenizer.vocab_size,
            "seed": self.settings.seed,
            "eval_ratio": self.settings.eval_ratio,
            "counts": {
                "read": summary.read,
                "train": summary.train,
                "eval": summary.eval,
                "dropped": summary.dropped,
            },
            "tokens": {"total": summary.tokens, "supervised": summary.supervised},
            "lengths": _lengths(spool.lengths),
            "truncated": summary.truncated,
        }


def _refuse_weights(source: Path, row: Conversation) -> None:
    weights = [row.weight, *(message.weight for message in row.messages)]
    if any(weight not in (None, 1) for weight in weights):
        raise InputError(
            f"{source}: conversation {row.id} has a weight that is not 1",
            "the JSON dataset has no place for weights: leave them out of the rows",
        )


def _lengths(lengths: Sequence[int]) -> dict[str, float]:
    ordered = sorted(lengths)

    def quantile(share: float) -> int:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "min": ordered[0],
        "mean": round(statistics.fmean(ordered), 1),
        "median": quantile(0.5),
        "p90": quantile(0.9),
        "p99": quantile(0.99),
        "max": ordered[-1],
    }


def _write(spool: _Spool, held_out: set[int], streams: Sequence[BinaryIO]) -> None:
    """Deal the rows out to train.json, eval.json, train.text.json, eval.text.json."""
    begun = [False] * len(streams)
    for index, row in enumerate(spool.rows()):
        part = index in held_out
        for offset, data in zip((0, 2), row, strict=True):
            place = offset + part
            streams[place].write((b",\n" if begun[place] else b"[\n") + data)
            begun[place] = True
    for stream in streams:
        stream.write(b"\n]\n")
