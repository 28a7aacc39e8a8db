"""Vectors without a network: TF-IDF with SVD, or a sentence-transformer's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import InputError, OpenChatError, need
from openchat_cli.core.progress import Progress, Task
from openchat_cli.data.embedding.terms import terms

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Vectors = NDArray[float32]  # [texts, dimensions]

DIMENSIONS = 128  # of TF-IDF with SVD
_VOCABULARY = 50_000  # terms, the most frequent ones
_ENOUGH_TO_JUDGE = 20  # texts, before a term is called too rare or too common
_CHUNK = 512  # texts between two steps of the progress


def one_thread() -> Any:
    """A block in which linear algebra runs on one thread, so that sums keep their order."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row divided by its length; a row of zeros stays as it is."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit


def tfidf_svd(texts: Sequence[str], dimensions: int, seed: int, progress: Progress) -> Vectors:
    """Unit vectors [len(texts), ≤ dimensions] from the terms of the texts; the same every time.

    Sublinear term frequency; terms in fewer than two or more than half of the texts say nothing
    about likeness and are left out, as far as there are enough texts to tell; so are the mean and
    the strongest direction, which every text shares or which tells languages apart
    (arXiv 1702.01417).
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.utils.extmath import randomized_svd

    enough = len(texts) >= _ENOUGH_TO_JUDGE
    vectorizer = TfidfVectorizer(
        analyzer=terms,
        sublinear_tf=True,
        min_df=2 if enough else 1,
        max_df=0.5 if enough else 1.0,
        max_features=_VOCABULARY,
        dtype=np.float32,
    )
    try:
        with progress.task("embed", total=len(texts), unit="texts") as task:
            table = vectorizer.fit_transform(_told(texts, task))
    except ValueError:  # no term is left: texts of digits alone, or all alike
        return np.zeros((len(texts), 1), np.float32)
    wanted = min(dimensions + enough, *table.shape)
    if table.shape[1] <= max(wanted, 3):
        return unit_rows(np.asarray(table.todense(), dtype=np.float32))
    with one_thread():
        left, sizes, _ = randomized_svd(table, wanted, n_iter=5, random_state=seed)
        vectors = left * sizes
        return unit_rows(_without_the_common(vectors) if enough else vectors)


def _without_the_common(vectors: Vectors) -> Vectors:
    """The vectors around their mean, turned to their principal axes, without the first."""
    import numpy as np

    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, 1:]
    largest = np.abs(axes).argmax(axis=0)
    signs = np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1, 1)
    rest: Vectors = (centred @ (axes * signs)).astype(np.float32)
    return rest


def _told(texts: Sequence[str], task: Task) -> Iterator[str]:
    for text in texts:
        yield text
        task.advance()


def sentence_transformer(
    folder: Path, texts: Sequence[str], batch_size: int, device: str | None, progress: Progress
) -> Vectors:
    """Unit vectors by a sentence-transformer's folder; nothing is downloaded.

    Raises MissingExtraError without the extra `embed` and InputError for a folder of another kind.
    """
    need("a sentence-transformer", "embed", "sentence_transformers")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "the folder of a sentence-transformer")
    import numpy as np
    import sentence_transformers

    try:
        model = sentence_transformers.SentenceTransformer(
            str(folder), device=device, local_files_only=True
        )
    except Exception as error:  # whatever its many parts raise for a folder they don't understand
        reason = " ".join(str(error).split())[:200]
        message = f"{folder}: can't be loaded as a sentence-transformer ({reason})"
        raise InputError(message) from error
    parts: list[Vectors] = []
    with progress.task("embed", total=len(texts), unit="texts") as task:
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            encoded = model.encode(chunk, batch_size=batch_size, show_progress_bar=False)
            parts.append(np.asarray(encoded, dtype=np.float32))
            task.advance(len(chunk))
    vectors = unit_rows(np.concatenate(parts))
    if not np.isfinite(vectors).all():
        raise OpenChatError(f"{folder}: the model gives numbers that are not finite")
    return vectors
