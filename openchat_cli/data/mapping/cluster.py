"""K-Means over the vectors, with k given or chosen by the silhouette."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openchat_cli.core.progress import Progress
from openchat_cli.data.embedding.local import one_thread

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    from openchat_cli.data.embedding.local import Vectors

    Labels = NDArray[int64]  # [vectors], 0 is the largest cluster

_TRIED_ON = 5000  # vectors on which each k is tried
_SCORED_ON = 2000  # of them, for the silhouette, whose cost grows by the square


@dataclass(frozen=True)
class Clusters:
    """The label of each vector; `scores` holds the silhouette of each k that was tried."""

    labels: Labels
    count: int
    scores: Mapping[int, float] = field(default_factory=dict)
    note: str | None = None


def cluster(
    vectors: Vectors, wanted: int | None, most: int, seed: int, *, progress: Progress
) -> Clusters:
    """Finite vectors in clusters, numbered by their size; the same every time."""
    import numpy as np

    different = len({row.tobytes() for row in vectors})
    note = None
    with one_thread():
        scores: Mapping[int, float] = {}
        if wanted is None and different > 2:
            scores = _scores(vectors, min(most, different - 1), seed, progress)
            # The smallest of the best, to the precision that is printed.
            wanted = max(scores, key=lambda k: (round(scores[k], 4), -k)) if scores else None
        count = min(wanted or different, different)
        if wanted is not None and count < wanted:
            note = f"{count} clusters, because there are no more different vectors"
        labels = _labels(vectors, count, seed, 10 if len(vectors) <= 10_000 else 4)
    sizes = np.bincount(labels, minlength=count)
    # A cluster may come out empty where rounding makes vectors alike.
    order = [index for index in np.argsort(-sizes, kind="stable") if sizes[index]]
    place = np.zeros(count, np.int64)
    place[order] = np.arange(len(order))
    return Clusters(place[labels], len(order), scores, note)


def _labels(vectors: Vectors, count: int, seed: int, starts: int) -> Labels:
    import warnings

    import numpy as np
    from sklearn.cluster import KMeans

    if count == 1:
        return np.zeros(len(vectors), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct vectors than clusters, by rounding
        fitted = KMeans(count, n_init=starts, random_state=seed).fit(vectors)
    return np.asarray(fitted.labels_, dtype=np.int64)


def _scores(vectors: Vectors, most: int, seed: int, progress: Progress) -> dict[int, float]:
    """The mean silhouette of each k from 2 to `most`, on a sample where there are many vectors."""
    import numpy as np
    from sklearn.metrics import silhouette_score

    draw = np.random.default_rng(seed)
    if len(vectors) > _TRIED_ON:
        vectors = vectors[np.sort(draw.choice(len(vectors), _TRIED_ON, replace=False))]
    shown = np.arange(len(vectors))
    if len(vectors) > _SCORED_ON:
        shown = np.sort(draw.choice(len(vectors), _SCORED_ON, replace=False))
    found: dict[int, float] = {}
    tried = range(2, min(most, len(vectors) - 1) + 1)
    with progress.task("clusters", total=len(tried), unit="values of k") as task:
        for k in tried:
            labels = _labels(vectors, k, seed, 4)[shown]
            if 1 < len(np.unique(labels)) < len(shown):
                found[k] = float(silhouette_score(vectors[shown], labels))
            task.advance()
    return found
