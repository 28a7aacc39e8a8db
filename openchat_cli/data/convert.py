"""`data convert`: conversations to token ids and masks, in the shape of the original.

`T.train.json` and `T.eval.json` are `[[token_ids, supervise_mask], …]`, the `.text.json` beside
them lists of strings, the `.safetensors` their memory-mapped twins (core/dataset.py), and
`T.dataset.json` says how they were made. Rows are tokenised once, in batches, into a spool beside
the outputs; the split is known only when all have been counted. All files appear together.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from openchat_cli.core import jsonl, records, templates
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Conversation, Dropped
from openchat_cli.core.registry import ModelType
from openchat_cli.core.together import written_together
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer, read_manifest, resolve_type
from openchat_cli.data import card, cutting, manifest, split
from openchat_cli.data.clean import CONVERSATIONS
from openchat_cli.data.filter import FILTERED, rows_file
from openchat_cli.data.parts import SplitWriter
from openchat_cli.data.render import Laid, Renderer
from openchat_cli.data.settings import ConvertSettings
from openchat_cli.data.spool import Spool, open_spool
from openchat_cli.data.survey import Survey
from openchat_cli.model import hub

_BATCH = 64  # conversations whose texts are tokenised together
_HIGHEST_WEIGHT = 1e6


@dataclass
class ConvertSummary:
    """What was written, and the lengths that training will meet.

    `read` counts conversations, `train`, `eval` and `dropped` rows: a conversation that `--split`
    cuts (`cut` of them) becomes several (`pieces` in all).
    """

    model_type: str
    read: int = 0
    train: int = 0
    eval: int = 0
    truncated: int = 0
    dropped: int = 0
    tokens: int = 0
    supervised: int = 0
    cut: int = 0
    pieces: int = 0
    weighted: bool = False
    outputs: tuple[Path, ...] = ()


def convert(settings: ConvertSettings, *, progress: Progress = SILENT) -> ConvertSummary:
    """Convert for one model type; see the module for the files.

    Raises InputError for rows that can't be rendered and where fewer than two conversations have
    something to learn; UsageError for settings that can't work.
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
    folder = settings.model_path or tokenizer_folder(kind, progress)
    tokenizer = load_tokenizer(folder, kind, compat=settings.compat)
    context = settings.context or _context(folder, kind)
    jsonl.claim(outputs, force=settings.force)
    summary = ConvertSummary(kind.name)
    with ExitStack() as stack:
        streams = stack.enter_context(written_together(outputs))
        *parts, dropped, last = streams
        spool = Spool(stack.enter_context(open_spool(settings.output)))
        job = _Job(settings, kind, tokenizer, context, source, summary, spool, dropped)
        with progress.task(f"convert {kind.name}", unit="conversations") as task:
            for batch in _batched(itertools.chain([first], rows)):
                job.tokenize(batch)
                task.advance(len(batch))
        job.write(parts)
        about = manifest.of_dataset(
            settings, kind, tokenizer, context, summary, spool.lengths, job.survey, source
        )
        about["files"] = manifest.digests(outputs[:-1], streams[:-1])
        last.write(manifest.text(about))
    written = card.write(settings.output, progress)
    summary.outputs = (*outputs, *written)
    return summary


def outputs_of(folder: Path, kind: ModelType) -> tuple[Path, ...]:
    """The files that a conversion writes: three a split, what was dropped, the manifest."""
    endings = ("json", "text.json", "safetensors")
    names = [f"{part}.{ending}" for part in ("train", "eval") for ending in endings]
    return tuple(
        folder / f"{kind.name}.{name}" for name in (*names, "dropped.jsonl", "dataset.json")
    )


def tokenizer_folder(kind: ModelType, progress: Progress) -> Path:
    """The tokeniser of the type's base model from the hub's cache, else downloaded."""
    base = Path(kind.base)
    found = hub.find(base, tokenizer_only=True)
    return found or hub.fetch(hub.plan(base, tokenizer_only=True), progress=progress)


def _context(folder: Path, kind: ModelType) -> int:
    prepared = read_manifest(folder)
    return kind.context if prepared is None else prepared.context


def _batched(rows: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch


@dataclass
class _Job:
    settings: ConvertSettings
    kind: ModelType
    tokenizer: ChatTokenizer
    context: int
    source: Path
    summary: ConvertSummary
    spool: Spool
    dropped: BinaryIO
    survey: Survey = field(default_factory=Survey)

    def __post_init__(self) -> None:
        self._renderer = Renderer(self.kind, self.tokenizer, self.context)

    def tokenize(self, batch: Sequence[Conversation]) -> None:
        """Render a batch into the spool; what has nothing to learn goes to `dropped`."""
        for row in batch:
            self.summary.read += 1
            self._keep(row, self._pieces(row, self._laid(row)))

    def _laid(self, row: Conversation) -> Laid:
        _check_weights(self.source, row)
        try:
            turns = templates.turns(self.kind, row.messages)
        except InputError as error:
            message = f"{self.source}: conversation {row.id}: {error.message}"
            raise InputError(message, error.hint) from None
        return self._renderer.cut(turns, row.weight, all_of_it=self.settings.split)

    def _pieces(self, row: Conversation, whole: Laid) -> list[Laid]:
        size = self._renderer.size(whole.turns, whole.ids) if self.settings.split else 0
        if size <= self._renderer.room:
            return [whole]
        found = cutting.pieces(self._renderer, self.kind, row.messages, row.weight)
        if len(found) > 1:
            self.summary.cut += 1
            self.summary.pieces += len(found)
        return found

    def _keep(self, row: Conversation, pieces: Sequence[Laid]) -> None:
        """Spool the pieces that have something to learn; the others are reported."""
        summary, begun = self.summary, False
        for number, laid in enumerate(pieces, 1):
            cut = self._renderer.row(laid)
            if not cut.learned:
                summary.dropped += 1
                self._drop(row, number, cut.truncated)
                continue
            if not begun:
                rank, begun = split.rank(self.settings.seed, row.id), True
                self.spool.begin(rank)
                self.survey.add(row, rank)
            self.spool.add(cut.row, cut.length)
            summary.truncated += cut.truncated
            summary.tokens += cut.length
            summary.supervised += cut.learned
            summary.weighted |= any(weight not in (0, 1) for _, weight in cut.row.runs)

    def _drop(self, row: Conversation, number: int, truncated: bool) -> None:
        name = row.id if number == 1 else f"{row.id}#{number}"
        detail = f"no answer within {self.context} tokens" if truncated else "no answer to learn"
        entry = Dropped(name, row.source, "", "nothing_supervised", None, detail)
        self.dropped.write(jsonl.dumps(entry.to_row()).encode() + b"\n")

    def write(self, parts: Sequence[BinaryIO]) -> None:
        """Deal the rows out to the three files of each split."""
        held_out = self._held_out()
        sides = bytearray(owner in held_out for owner in self.spool.owners)
        totals = [0, 0]
        for side, length in zip(sides, self.spool.lengths, strict=True):
            totals[side] += length
        self.summary.eval = sum(sides)
        self.summary.train = len(sides) - self.summary.eval
        counts = (self.summary.train, self.summary.eval)
        vocab_size = self.tokenizer.vocab_size
        writers = [
            SplitWriter(*parts[3 * at : 3 * at + 3], rows=rows, total=total, vocab_size=vocab_size)
            for at, (rows, total) in enumerate(zip(counts, totals, strict=True))
        ]
        for side, row in zip(sides, self.spool.rows(), strict=True):
            writers[side].add(row)
        for writer in writers:
            writer.finish()

    def _held_out(self) -> set[int]:
        """The conversations that are held out, with all their pieces."""
        ranks: array[int] = self.spool.ranks
        count = split.held_out_count(len(ranks), self.settings.eval_ratio)
        if count >= len(ranks):
            raise InputError(
                f"{self.source}: {len(ranks)} of {self.summary.read} conversations have something "
                f"to learn within {self.context} tokens, and {count} would be held out",
                "at least one must be left to train on",
            )
        return split.held_out(ranks, count)


def _check_weights(source: Path, row: Conversation) -> None:
    if row.weight == 1 and all(message.weight is None for message in row.messages):
        return
    for weight in (row.weight, *(message.weight for message in row.messages)):
        if weight is not None and not 0 <= weight <= _HIGHEST_WEIGHT:
            message = f"{source}: conversation {row.id} has the weight {weight}"
            raise InputError(message, f"weights are numbers from 0 to {_HIGHEST_WEIGHT:.0f}")
