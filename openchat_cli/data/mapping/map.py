"""`data map`: from vectors to a map that can be looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, UsageError, need
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.data.clean import CONVERSATIONS
from openchat_cli.data.embedding import files, local
from openchat_cli.data.embedding.text import text_of
from openchat_cli.data.filter import FILTERED, rows_file
from openchat_cli.data.mapping import names, visualizer
from openchat_cli.data.mapping.cluster import Clusters, cluster
from openchat_cli.data.mapping.conversations import Conversations, Facts, limit_for, turns_of
from openchat_cli.data.mapping.page import MapData, map_page
from openchat_cli.data.mapping.reduce import Reduced, finite, reduce
from openchat_cli.data.settings import EmbedSettings, MapSettings

if TYPE_CHECKING:
    from openchat_cli.data.embedding.local import Vectors


@dataclass(frozen=True)
class MapSummary:
    """What was written. `scores` are the silhouettes by k; `notes` what should be known."""

    outputs: tuple[Path, ...]
    points: int
    embedding: str
    reduction: str
    clusters: Sequence[Mapping[str, Any]]  # id, name, words, size
    scores: Mapping[int, float]
    limit: int  # characters of a conversation that were taken over
    cut: int  # conversations longer than that
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Input:
    conversations: Conversations
    vectors: Vectors
    facts: Facts
    embedding: str
    notes: tuple[str, ...]


def outputs_of(settings: MapSettings) -> tuple[Path, Path]:
    """The data and the page."""
    if not re.fullmatch(r"[\w][\w.-]*", settings.name):
        raise UsageError(f"--name '{settings.name}': letters, digits, '.', '_' and '-' only")
    return (
        settings.output / f"{settings.name}.visualizer.json",
        settings.output / f"{settings.name}.map.html",
    )


def make_map(settings: MapSettings, *, progress: Progress = SILENT) -> MapSummary:
    """Write OUT/NAME.visualizer.json and OUT/NAME.map.html.

    The same input, settings and versions give the same bytes. Raises InputError for embeddings
    that do not belong to the conversations.
    """
    _check(settings)
    outputs = outputs_of(settings)
    jsonl.claim(outputs, force=settings.force)
    found = _input(settings, progress)
    vectors, broken = finite(found.vectors)
    clusters = cluster(
        vectors, settings.clusters, settings.max_clusters, settings.seed, progress=progress
    )
    with progress.task(f"place {len(vectors)} points") as task:
        reduced = reduce(
            vectors,
            settings.reduce,
            neighbors=settings.neighbors,
            min_dist=settings.min_dist,
            seed=settings.seed,
        )
        task.advance(len(vectors))
    words = names.top_words(found.facts.texts, clusters.labels.tolist(), clusters.count)
    limit = limit_for(found.facts.lengths, settings.page_chars)
    named = _named(words, clusters)
    about = f"{_METHODS[reduced.method]} of {found.embedding}, {_count(clusters)}"
    data = MapData(settings.name, about, reduced.points, clusters.labels, named, found.facts, limit)
    _write(outputs, found.conversations, data)
    return MapSummary(
        outputs=outputs,
        points=len(vectors),
        embedding=found.embedding,
        reduction=reduced.method,
        clusters=named,
        scores=clusters.scores,
        limit=limit,
        cut=sum(length > limit for length in found.facts.lengths),
        notes=(*found.notes, *_notes(reduced, clusters, broken)),
    )


def _check(settings: MapSettings) -> None:
    """What can't work is said before the long work."""
    if settings.output == jsonl.STDIO:
        raise UsageError("data map writes several files: OUT must be a folder")
    least = {"clusters": 1, "max_clusters": 2, "neighbors": 2, "page_chars": 1}
    for name, number in least.items():
        value = getattr(settings, name)
        if value is not None and value < number:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {number}")
    if not 0 <= settings.min_dist <= 1:
        raise UsageError("--min-dist must be between 0 and 1")
    if settings.reduce == "umap":
        need("UMAP", "viz", "umap")


_METHODS = {"umap": "UMAP", "pca": "PCA"}


def _count(clusters: Clusters) -> str:
    return f"{clusters.count} cluster{'s' if clusters.count != 1 else ''} by K-Means"


def _notes(reduced: Reduced, clusters: Clusters, broken: int) -> list[str]:
    notes = [note for note in (reduced.note, clusters.note) if note is not None]
    if broken:
        notes.append(f"{broken} vectors are not finite: placed as zeros")
    return notes


def _named(words: Sequence[Sequence[str]], clusters: Clusters) -> list[dict[str, Any]]:
    sizes = [0] * clusters.count
    for label in clusters.labels.tolist():
        sizes[label] += 1
    return [
        {"id": index, "name": names.name_of(found), "words": list(found), "size": sizes[index]}
        for index, found in enumerate(words)
    ]


def _write(outputs: tuple[Path, Path], conversations: Conversations, data: MapData) -> None:
    facts = data.facts
    labels = data.labels.tolist()
    lists = {
        "text": (visualizer.text_of(turns_of(row, data.limit)) for row in conversations),
        "embedding": ([round(x, 5) for x in point] for point in data.points.tolist()),
        "color": (label % visualizer.COLORS for label in labels),
        "cluster": labels,
        "id": facts.ids,
        "model": facts.models,
        "language": facts.languages,
        "length": facts.lengths,
    }
    values = {"clusters": list(data.clusters), "name": data.name, "about": data.about}
    visualizer.write(outputs[0], lists, values)
    jsonl.write_text(
        outputs[1], map_page(data, (turns_of(row, data.limit) for row in conversations))
    )


# --- what is mapped ---


def _input(settings: MapSettings, progress: Progress) -> _Input:
    folder = settings.input
    if folder != jsonl.STDIO and (folder / files.MANIFEST).is_file():
        return _embedded(folder, settings.rows, progress)
    if settings.rows is not None:
        raise UsageError("--rows goes with the folder of data embed", "give the rows as INPUT")
    source = rows_file(folder, FILTERED, CONVERSATIONS)
    conversations = Conversations(source)
    facts = conversations.facts(progress)
    texts = [text_of(row, EmbedSettings.max_chars) for row in conversations]
    vectors = local.tfidf_svd(texts, local.DIMENSIONS, EmbedSettings.seed, progress)
    return _Input(conversations, vectors, facts, "TF-IDF with SVD", ())


def _embedded(folder: Path, rows: Path | None, progress: Progress) -> _Input:
    vectors, manifest = files.read(folder)
    conversations = _matching(folder, rows, manifest)
    facts = conversations.facts(progress)
    if tuple(facts.ids) != manifest.ids:
        raise InputError(f"{folder / files.MANIFEST}: its ids are not those of the rows")
    label = "TF-IDF with SVD" if manifest.model is None else f"embeddings by {manifest.model}"
    notes: tuple[str, ...] = ()
    if manifest.failed:
        notes = (f"{len(manifest.failed)} conversations have no vector and are not on the map",)
    return _Input(conversations, vectors, facts, label, notes)


def _matching(folder: Path, rows: Path | None, manifest: files.EmbeddingsManifest) -> Conversations:
    """The rows that were embedded: as given, where the manifest says, or beside it."""
    places = [folder / manifest.rows, folder / FILTERED, folder / CONVERSATIONS]
    seen = []
    for place in [rows] if rows is not None else dict.fromkeys(places):
        if not place.is_file():
            continue
        found = Conversations(place, frozenset(manifest.failed))
        if found.fingerprint() == manifest.input_hash:
            return found
        seen.append(str(place))
    if seen:
        message = f"{', '.join(seen)}: not the conversations that {folder / files.MANIFEST} is of"
        raise InputError(message, f"openchat data embed INPUT {folder} --force")
    message = f"{rows or folder / manifest.rows}: no such file; it was embedded"
    raise InputError(message, "say where the conversations are now: --rows FILE")
