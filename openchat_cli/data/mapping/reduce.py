"""Vectors to points in space: UMAP where it is installed, else the first principal components."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openchat_cli.data.embedding.local import one_thread
from openchat_cli.data.settings import Reduction

if TYPE_CHECKING:
    from numpy import int32
    from numpy.typing import NDArray

    from openchat_cli.data.embedding.local import Vectors

AXES = 3
_FEWEST = 10  # different vectors, below which neighbourhoods say nothing
_GAP = 1.0  # in UMAP's units, in which neighbours lie closer than that
_EXACT = 1024  # dimensions up to which the covariance is decomposed exactly


@dataclass(frozen=True)
class Reduced:
    """The points [vectors, 3], how they were found, and why not otherwise."""

    points: Vectors
    method: str  # umap or pca
    note: str | None = None


def finite(vectors: Vectors) -> tuple[Vectors, int]:
    """The vectors with zeros for each row that holds NaN or infinity, and how many those were."""
    import numpy as np

    good = np.isfinite(vectors).all(axis=1, keepdims=True)
    return np.where(good, vectors, np.float32(0)), len(vectors) - int(good.sum())


def reduce(
    vectors: Vectors, method: Reduction, *, neighbors: int, min_dist: float, seed: int
) -> Reduced:
    """Finite vectors to three dimensions; the same vectors and seed give the same points.

    UMAP must be installed where it is asked for; "auto" and "umap" fall back to PCA, with a note,
    where it can't work.
    """
    why = None
    if method == "auto" and importlib.util.find_spec("umap") is None:
        why = "PCA, because UMAP is not installed (pip install 'openchat-cli[viz]')"
    elif method != "pca" and (count := _different(vectors)) < _FEWEST:
        why = f"PCA, because UMAP needs {_FEWEST} different vectors and there are {count}"
    with one_thread():
        if method == "pca" or why is not None:
            return Reduced(pca(vectors, seed), "pca", why)
        points = _umap(vectors, neighbors, min_dist, seed)
        if points is None:
            why = "PCA, because UMAP gave points that are not finite"
            return Reduced(pca(vectors, seed), "pca", why)
        return Reduced(points, "umap")


def _different(vectors: Vectors) -> int:
    """How many different vectors there are, counted up to what matters."""
    found: set[bytes] = set()
    for row in vectors:
        found.add(row.tobytes())
        if len(found) >= _FEWEST:
            break
    return len(found)


def pca(vectors: Vectors, seed: int) -> Vectors:
    """The first three principal components [vectors, 3], zeros where there are fewer.

    Each axis points to where its largest weight is positive, so that no sign is left to chance.
    """
    import numpy as np

    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if vectors.shape[1] <= _EXACT:
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :AXES]
    else:
        from sklearn.utils.extmath import randomized_svd

        wanted = min(AXES, *vectors.shape)
        axes = randomized_svd(centred, wanted, random_state=seed)[2].T
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1, 1)
    points = np.zeros((len(vectors), AXES), np.float32)
    points[:, : axes.shape[1]] = centred @ axes
    return points


def _umap(vectors: Vectors, neighbors: int, min_dist: float, seed: int) -> Vectors | None:
    """UMAP's points; None where they are not finite.

    Its approximate neighbours and its spectral start differ from run to run even with a seed: the
    neighbours are given exactly, and the start is PCA.
    """
    import numpy as np

    count = min(neighbors, len(vectors) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own optional parts, and its use of numba
        import umap

        fitted = umap.UMAP(
            n_components=AXES,
            n_neighbors=count,
            min_dist=min_dist,
            metric="euclidean",
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=_neighbours(vectors, count),
        ).fit_transform(vectors)
    points = np.asarray(fitted, dtype=np.float32)
    # Turned so that the longest side lies along the first axis.
    return pca(gathered(points), seed) if np.isfinite(points).all() else None


def _neighbours(vectors: Vectors, count: int) -> tuple[Any, Any]:
    """Indices and distances of the nearest vectors [vectors, count], each one's own self first.

    On unit vectors the order is that of the cosine.
    """
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=count, algorithm="brute", n_jobs=1).fit(vectors)
    distances, indices = search.kneighbors(vectors)
    own = np.arange(len(vectors))[:, None]
    # Among equal vectors another may stand first; UMAP takes the first for the point itself.
    missing = ~(indices == own).any(axis=1)
    indices[missing, -1] = own[missing, 0]
    distances[indices == own] = -1
    order = np.lexsort((indices, distances), axis=1)
    indices = np.take_along_axis(indices, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    distances[:, 0] = 0
    return indices.astype(np.int32), distances.astype(np.float32)


def gathered(points: Vectors) -> Vectors:
    """UMAP's points with its islands moved together, each as it is and in its own direction.

    Islands that share no neighbours, such as two languages, are pushed apart without limit: how far
    says nothing, and the islands themselves would be too small to be seen.
    """
    import numpy as np

    islands = _islands(points)
    sizes = np.bincount(islands)
    order = np.argsort(-sizes, kind="stable")
    centres = np.stack([points[islands == one].mean(axis=0) for one in range(len(sizes))])
    radii = np.array(
        [
            np.quantile(np.linalg.norm(points[islands == one] - centres[one], axis=1), 0.98)
            for one in range(len(sizes))
        ]
    )
    placed = np.zeros_like(centres)
    for rank, one in enumerate(order[1:], 1):
        before = order[:rank]
        apart = radii[before] + radii[one] + _GAP
        for share in np.linspace(0, 1, 41):
            placed[one] = share * (centres[one] - centres[order[0]])
            if (np.linalg.norm(placed[before] - placed[one], axis=1) >= apart).all():
                break
    moved: Vectors = (points - centres[islands] + placed[islands]).astype(np.float32)
    return moved


def _islands(points: Vectors) -> NDArray[int32]:
    """The number of each point's island: cells of space that touch each other are one."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    cells, cell_of = np.unique(np.floor(points / _GAP), axis=0, return_inverse=True)
    pairs = cKDTree(cells).query_pairs(1.8, output_type="ndarray")  # also across corners
    ones = np.ones(len(pairs))
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))
    labels: NDArray[int32] = connected_components(graph, directed=False)[1][cell_of.ravel()]
    return labels
