"""`data embed`: conversations to vectors, by one of three ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Conversation
from openchat_cli.core.token_count import token_counter
from openchat_cli.data.clean import CONVERSATIONS
from openchat_cli.data.embedding import endpoint, files, local
from openchat_cli.data.embedding.endpoint import Asked, Remote
from openchat_cli.data.embedding.files import EmbeddingsManifest
from openchat_cli.data.embedding.journal import VectorJournal
from openchat_cli.data.embedding.text import Fingerprint, text_of
from openchat_cli.data.filter import FILTERED, rows_file
from openchat_cli.data.settings import EmbedSettings

if TYPE_CHECKING:
    from openchat_cli.data.embedding.local import Vectors

TFIDF, TRANSFORMER, ENDPOINT = "tfidf-svd", "sentence-transformer", "endpoint"
_MARGIN = 0.9  # of the tokens allowed, where they are estimated and not counted
_TOKENS_OF_ASCII = 0.9  # tokens that a character of ASCII takes at most, by the estimate
_SAMPLE = 2000  # texts whose tokens are counted for the cost; the rest by their length


@dataclass(frozen=True)
class EmbedPlan:
    """What embedding takes. `calls`, `tokens` and `usd` are of an endpoint's texts that are still
    to be sent; `usd` is None where the price is not known.
    """

    method: str
    model: str | None
    conversations: int
    texts: int  # different ones
    cut: int  # texts shortened to the limits
    recorded: int = 0
    calls: int = 0
    tokens: int = 0
    counted_by: str | None = None
    usd: float | None = None


@dataclass(frozen=True)
class EmbedSummary:
    """What was written; `failed` are conversations without a vector."""

    outputs: tuple[Path, ...]
    plan: EmbedPlan
    count: int
    dims: int
    failed: int = 0
    reason: str | None = None  # of the first failure
    calls: int = 0
    shortened: int = 0
    tokens: int | None = None
    usd: float | None = None


@dataclass
class _Read:
    """The conversations as they were read."""

    source: Path
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    fingerprint: str = ""
    rows: list[Conversation] | None = None  # kept where they came from stdin
    cut: int = 0


def embed(
    settings: EmbedSettings,
    *,
    planned: Callable[[EmbedPlan], None] = lambda plan: None,
    progress: Progress = SILENT,
) -> EmbedSummary:
    """Write OUT/embeddings.safetensors ("embeddings": float32 [conversations, dims]) and
    OUT/embeddings.json. `planned` is told what it takes before anything is sent, and may raise.

    Raises EndpointError where no call can succeed; single texts that fail are left out, counted,
    and asked for again by a rerun.
    """
    if settings.output == jsonl.STDIO:
        raise UsageError("data embed writes several files: OUT must be a folder")
    _check(settings)
    outputs = outputs_of(settings)
    jsonl.claim(outputs, force=settings.force)
    read = _read(settings, progress)
    remote = _remote(settings)
    if remote is not None:
        return _by_endpoint(settings, remote, read, outputs, planned, progress)
    planned(_plan(settings, read))
    if settings.model_path is not None:
        vectors = local.sentence_transformer(
            settings.model_path, read.texts, settings.batch_size, settings.device, progress
        )
    else:
        dimensions = settings.dimensions or local.DIMENSIONS
        vectors = local.tfidf_svd(read.texts, dimensions, settings.seed, progress)
    _write(settings, read, vectors, {})
    return EmbedSummary(outputs, _plan(settings, read), len(vectors), int(vectors.shape[1]))


def plan(settings: EmbedSettings, *, progress: Progress = SILENT) -> EmbedPlan:
    """What `embed` would do: no call is made and nothing is written."""
    _check(settings)
    read = _read(settings, progress)
    remote = _remote(settings)
    if remote is None:
        return _plan(settings, read)
    wanted = _wanted(settings, remote, read)
    if not (settings.output / ".journal").is_dir():
        return _remote_plan(settings, remote, read, wanted, len(wanted))
    with VectorJournal(settings.output) as journal:
        left = {key: text for key, text in wanted.items() if key not in journal}
    return _remote_plan(settings, remote, read, left, len(wanted))


def outputs_of(settings: EmbedSettings) -> tuple[Path, ...]:
    """The vectors, the manifest, and a copy of the rows where they come from stdin."""
    names = [files.VECTORS, files.MANIFEST]
    if settings.input == jsonl.STDIO:
        names.append(files.ROWS)
    return tuple(settings.output / name for name in names)


def method_of(settings: EmbedSettings) -> tuple[str, str | None]:
    """The way, and the model's name."""
    if settings.endpoint is not None:
        return ENDPOINT, settings.model
    if settings.model_path is not None:
        return TRANSFORMER, settings.model_path.name or str(settings.model_path)
    return TFIDF, None


def _check(settings: EmbedSettings) -> None:
    if settings.endpoint is not None and settings.model_path is not None:
        raise UsageError("--model-path is local and --url is not: choose one")
    if settings.endpoint is not None and not settings.model:
        raise UsageError("--url needs the endpoint's model", "--model NAME")
    if settings.endpoint is not None:
        settings.endpoint.require_key("leave --model out to embed offline")
    if settings.model_path is not None and settings.dimensions is not None:
        raise UsageError("--dimensions does not go with --model-path")
    for name in ("max_chars", "max_tokens", "batch_size", "dimensions"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be positive")


def _read(settings: EmbedSettings, progress: Progress) -> _Read:
    source = rows_file(settings.input, FILTERED, CONVERSATIONS)
    read = _Read(source, rows=[] if source == jsonl.STDIO else None)
    passed = Fingerprint()
    with progress.task("read", unit="rows") as task:
        for row in passed.through(records.read(source, Conversation)):
            read.ids.append(row.id)
            read.texts.append(text_of(row, settings.max_chars))
            read.cut += sum(len(one.content) for one in row.messages) > settings.max_chars
            if read.rows is not None:
                read.rows.append(row)
            task.advance()
    if not read.ids:
        raise InputError(f"{source}: holds no conversations")
    read.fingerprint = passed.value()
    return read


def _plan(settings: EmbedSettings, read: _Read) -> EmbedPlan:
    return EmbedPlan(*method_of(settings), len(read.ids), len(set(read.texts)), read.cut)


def _write(
    settings: EmbedSettings,
    read: _Read,
    vectors: Vectors,
    failed: Mapping[int, str],
    *,
    tokens: int | None = None,
    usd: float | None = None,
) -> None:
    method, model = method_of(settings)
    if read.rows is not None:
        records.write(settings.output / files.ROWS, read.rows)
    manifest = EmbeddingsManifest(
        method=method,
        model=model,
        dims=int(vectors.shape[1]),
        rows=files.place_of(read.source, settings.output),
        input_hash=read.fingerprint,
        ids=tuple(name for place, name in enumerate(read.ids) if place not in failed),
        failed=failed,
        settings={
            "max_chars": settings.max_chars,
            "max_tokens": settings.max_tokens if method == ENDPOINT else None,
            "dimensions": settings.dimensions,
            "seed": settings.seed,
            "url": settings.endpoint.url if settings.endpoint else None,
        },
        tokens=tokens,
        usd=usd,
    )
    files.write(settings.output, vectors, manifest)


# --- an endpoint ---


def _remote(settings: EmbedSettings) -> Remote | None:
    if settings.endpoint is None or settings.model is None:
        return None
    return Remote(settings.endpoint, settings.model, settings.dimensions, settings.batch_size)


def _wanted(settings: EmbedSettings, remote: Remote, read: _Read) -> dict[str, str]:
    """Each different text by its key, cut to the tokens that the model takes."""
    count, counted_by = token_counter(remote.model)
    limit = settings.max_tokens * (1 if counted_by.startswith("tiktoken") else _MARGIN)
    read.texts = [_fitted(text, limit, count) for text in read.texts]
    return {remote.key(text): text for text in read.texts}


def _fitted(text: str, limit: float, count: Callable[[str], float]) -> str:
    """The text, or a beginning of it that has at most `limit` tokens."""
    if text.isascii() and len(text) * _TOKENS_OF_ASCII <= limit:
        return text
    while (tokens := count(text)) > limit and len(text) > 1:
        text = text[: max(1, min(len(text) - 1, int(len(text) * limit / tokens)))]
    return text


def _remote_plan(
    settings: EmbedSettings, remote: Remote, read: _Read, left: Mapping[str, str], texts: int
) -> EmbedPlan:
    count, counted_by = token_counter(remote.model)
    tokens = _tokens(list(left.values()), count)
    price = endpoint.price_of(remote.model)
    return EmbedPlan(
        method=ENDPOINT,
        model=remote.model,
        conversations=len(read.ids),
        texts=texts,
        cut=read.cut,
        recorded=texts - len(left),
        calls=sum(1 for _ in endpoint.batches(remote, left)),
        tokens=tokens,
        counted_by=counted_by,
        usd=None if price is None else tokens * price,
    )


def _tokens(texts: Sequence[str], count: Callable[[str], float]) -> int:
    """The tokens of all texts, from evenly spread ones where there are many."""
    sample = texts[:: max(1, len(texts) // _SAMPLE)]
    characters = sum(map(len, sample))
    if not characters:
        return 0
    return round(sum(map(count, sample)) * sum(map(len, texts)) / characters)


def _by_endpoint(
    settings: EmbedSettings,
    remote: Remote,
    read: _Read,
    outputs: tuple[Path, ...],
    planned: Callable[[EmbedPlan], None],
    progress: Progress,
) -> EmbedSummary:
    wanted = _wanted(settings, remote, read)
    with VectorJournal(settings.output) as journal:
        left = {key: text for key, text in wanted.items() if key not in journal}
        what = _remote_plan(settings, remote, read, left, len(wanted))
        planned(what)
        dims = next(iter(journal.dims(list(wanted))), None)
        asked = Asked()
        if left:
            asked = endpoint.ask(remote, left, journal, dims, progress=progress)
        keys = [remote.key(text) for text in read.texts]
        failed = {place: asked.failed[key] for place, key in enumerate(keys) if key in asked.failed}
        vectors = _collected(remote, journal, [key for key in keys if key not in asked.failed])
        tokens = journal.tokens(list(wanted))
    if vectors is None:
        raise OpenChatError(f"none of {len(keys)} texts was embedded: {failed[0]}")
    price = endpoint.price_of(remote.model)
    usd = None if price is None else tokens * price
    _write(settings, read, vectors, failed, tokens=tokens, usd=usd)
    return EmbedSummary(
        outputs=outputs,
        plan=what,
        count=len(vectors),
        dims=int(vectors.shape[1]),
        failed=len(failed),
        reason=next(iter(failed.values()), None),
        calls=asked.calls,
        shortened=asked.shortened,
        tokens=tokens,
        usd=usd,
    )


def _collected(remote: Remote, journal: VectorJournal, keys: Sequence[str]) -> Vectors | None:
    """The unit vectors of these texts; None where there are none."""
    dims = journal.dims(keys)
    if not dims:
        return None
    if len(dims) > 1:
        said = " and ".join(map(str, sorted(dims)))
        message = f"{remote.model} at {remote.endpoint.url}: vectors of {said} numbers"
        raise OpenChatError(message, "delete OUT/.journal and embed anew")
    return local.unit_rows(journal.read(keys, dims.pop()))
