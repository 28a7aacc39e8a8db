"""`data map`: points, clusters, names, and the file that the original's page reads."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT
from openchat_cli.data.embedding import files
from openchat_cli.data.embedding.embed import embed
from openchat_cli.data.embedding.files import EmbeddingsManifest
from openchat_cli.data.mapping import visualizer
from openchat_cli.data.mapping.cluster import cluster
from openchat_cli.data.mapping.conversations import limit_for
from openchat_cli.data.mapping.map import make_map
from openchat_cli.data.mapping.names import top_words
from openchat_cli.data.mapping.reduce import finite, gathered, pca, reduce
from openchat_cli.data.settings import EmbedSettings, MapSettings
from tests.conftest import RunCli
from tests.data.topics import TOPICS, conversation, mixed, write

HAS_UMAP = importlib.util.find_spec("umap") is not None


def blobs(groups: int, each: int, dims: int = 12) -> Any:
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(groups, dims)) * 6
    return np.concatenate([c + draw.normal(size=(each, dims)) for c in centres]).astype(np.float32)


def place(vectors: Any, method: Any = "pca", seed: int = 42) -> Any:
    return reduce(vectors, method, neighbors=15, min_dist=0.1, seed=seed)


# --- points ---


def test_pca_keeps_the_largest_differences() -> None:
    vectors = blobs(3, 50)
    points = pca(vectors, 0)
    centred = vectors - vectors.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)[:3]
    assert np.allclose(np.linalg.norm(points, axis=0), singular, rtol=1e-4)
    assert np.array_equal(points, pca(vectors, 0))


@pytest.mark.parametrize("method", ["auto", "pca"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_points(method: Any, count: int) -> None:
    points = place(blobs(1, count), method).points
    assert points.shape == (count, 3)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("method", ["auto", "pca"])
def test_identical_points_and_narrow_vectors(method: Any) -> None:
    same = place(np.ones((40, 5), np.float32), method)
    assert np.isfinite(same.points).all()
    narrow = place(np.zeros((40, 1), np.float32), method)
    assert narrow.points.shape == (40, 3)
    assert narrow.method == "pca"


def test_vectors_that_are_not_finite_become_zeros() -> None:
    vectors = blobs(1, 5)
    vectors[2, 3], vectors[4, 0] = np.nan, np.inf
    mended, count = finite(vectors)
    assert count == 2
    assert not mended[2].any() and not mended[4].any()
    assert np.array_equal(mended[0], vectors[0])


def test_islands_move_together_and_stay_what_they_are() -> None:
    draw = np.random.default_rng(0)
    one = draw.uniform(-2, 2, size=(300, 3))
    other = draw.uniform(-1, 1, size=(200, 3)) + np.array([80, 5, 0])
    points = np.concatenate([one, other]).astype(np.float32)
    moved = gathered(points)
    gap = np.linalg.norm(moved[:300].mean(axis=0) - moved[300:].mean(axis=0))
    assert 3 < gap < 10
    for part in (slice(0, 300), slice(300, 500)):
        before = points[part] - points[part].mean(axis=0)
        assert np.allclose(moved[part] - moved[part].mean(axis=0), before, atol=1e-4)


_UMAP = """
import hashlib, sys, warnings
import numpy as np
from openchat_cli.data.mapping.reduce import reduce
vectors = np.random.default_rng(5).normal(size=(int(sys.argv[1]), 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
for _ in range(int(sys.argv[2])):
    found = reduce(vectors, "umap", neighbors=15, min_dist=0.1, seed=42)
    assert found.method == "umap" and np.isfinite(found.points).all()
    print(hashlib.sha256(found.points.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_UMAP, reason="umap-learn is not installed")
@pytest.mark.parametrize("count", [300, 4500])  # UMAP takes other ways from 4,096 points on
def test_umap_gives_the_same_points_in_every_process(count: int) -> None:
    def run(times: int, threads: str) -> list[str]:
        import os

        env = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
        line = [sys.executable, "-c", _UMAP, str(count), str(times)]
        return subprocess.run(
            line, env=env, capture_output=True, text=True, check=True, timeout=280
        ).stdout.split()

    found = run(2, "1") + run(1, "2")
    assert len(found) == 3
    assert len(set(found)) == 1


@pytest.mark.slow
@pytest.mark.skipif(not HAS_UMAP, reason="umap-learn is not installed")
def test_umap_keeps_neighbours_together() -> None:
    vectors = blobs(4, 30)
    points = place(vectors, "umap").points
    labels = np.repeat(np.arange(4), 30)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(far, np.inf)
    assert (labels[far.argmin(axis=1)] == labels).mean() > 0.98


# --- clusters ---


def test_the_silhouette_finds_the_groups() -> None:
    found = cluster(blobs(5, 40), None, 10, 42, progress=SILENT)
    assert found.count == 5
    assert set(found.scores) == set(range(2, 11))
    groups = found.labels.reshape(5, 40)
    assert all(len(set(group.tolist())) == 1 for group in groups)


def test_clusters_are_numbered_by_size_and_the_same_again() -> None:
    vectors = np.concatenate([blobs(1, 10), blobs(1, 50) + 30, blobs(1, 30) - 30])
    found = cluster(vectors, 3, 20, 42, progress=SILENT)
    assert np.bincount(found.labels).tolist() == [50, 30, 10]
    again = cluster(vectors, 3, 20, 42, progress=SILENT)
    assert np.array_equal(found.labels, again.labels)


@pytest.mark.parametrize(
    ("vectors", "wanted", "count"),
    [
        (np.zeros((1, 3), np.float32), None, 1),
        (np.zeros((30, 3), np.float32), None, 1),
        (np.zeros((30, 3), np.float32), 5, 1),
        (np.eye(2, dtype=np.float32), None, 2),
        (np.eye(3, dtype=np.float32), None, 2),
        (np.eye(5, dtype=np.float32), 9, 5),
    ],
)
def test_clusters_of_few_vectors(vectors: Any, wanted: int | None, count: int) -> None:
    found = cluster(vectors, wanted, 20, 42, progress=SILENT)
    assert found.count == count
    assert len(found.labels) == len(vectors)


def test_clusters_are_named_by_their_own_words() -> None:
    rows = mixed(12)
    texts = [" ".join(one["content"] for one in row["messages"]) for row in rows]
    labels = [n // 12 for n in range(48)]
    named = top_words(texts, labels, 4)
    for words, topic in zip(named, TOPICS, strict=False):
        assert len(words) >= 3
        assert set(words) <= set(TOPICS[topic].split())
    assert any(word in "做饭米饭蔬菜酱油炒锅火候食材调味" for word in named[3])
    assert all("question" not in words and "answer" not in words for words in named)


# --- the files ---


def test_the_visualizer_file_has_the_original_shape(openchat: RunCli, tmp_path: Path) -> None:
    rows = mixed(10)
    rows[0]["messages"][0]["content"] = "a <|end_of_turn|> inside"
    write(tmp_path / "out" / "conversations.jsonl", rows)
    ended = openchat("data", "map", "out", "map", "--reduce", "pca", "--name", "my.set", "--json")
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    value = json.loads((tmp_path / "map" / "my.set.visualizer.json").read_text("utf-8"))
    assert len(value["text"]) == len(value["embedding"]) == len(value["color"]) == 40
    assert value["text"][1] == "".join(
        f"{name}: {message['content']}<|end_of_turn|>"
        for name, message in zip(("Human", "Assistant"), rows[1]["messages"], strict=True)
    )
    assert value["text"][0].count("<|end_of_turn|>") == 2
    assert all(len(point) == 3 for point in value["embedding"])
    assert all(isinstance(color, int) and 0 <= color < 20 for color in value["color"])
    assert value["id"] == [row["id"] for row in rows]
    assert sum(one["size"] for one in value["clusters"]) == 40
    assert counts["points"] == 40
    assert "silhouettes for k from 2 to 20" in ended.stderr
    page = (tmp_path / "map" / "my.set.map.html").read_text("utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Content-Security-Policy" in page


def test_embed_then_map_gives_the_same_as_map_alone(tmp_path: Path) -> None:
    rows = write(tmp_path / "in" / "conversations.jsonl", mixed(8))
    embed(EmbedSettings(rows, tmp_path / "vectors"))
    for source, out in ((tmp_path / "vectors", "a"), (rows, "b"), (rows.parent, "c")):
        make_map(MapSettings(source, tmp_path / out, reduce="pca"))
    first, *others = (
        (tmp_path / out / "conversations.map.html").read_bytes() for out in ("a", "b", "c")
    )
    assert all(other == first for other in others)


def test_colors_stay_within_the_original_scale(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", mixed(10))
    make_map(MapSettings(rows, tmp_path, reduce="pca", clusters=30))
    value = json.loads((tmp_path / "conversations.visualizer.json").read_text("utf-8"))
    assert max(value["cluster"]) == 29
    assert max(value["color"]) == 19


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_map_of_few_conversations(tmp_path: Path, count: int) -> None:
    rows = write(tmp_path / "rows.jsonl", mixed(2)[:count])
    assert make_map(MapSettings(rows, tmp_path)).points == count


def test_vectors_with_holes_are_survived(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", mixed(5))
    embed(EmbedSettings(rows, tmp_path))
    vectors, manifest = files.read(tmp_path)
    vectors = vectors.copy()
    vectors[3] = np.nan
    files.write(tmp_path, vectors, manifest)
    summary = make_map(MapSettings(tmp_path, tmp_path, reduce="pca"))
    assert "1 vectors are not finite: placed as zeros" in summary.notes


def test_other_conversations_than_those_embedded_are_refused(tmp_path: Path) -> None:
    rows = write(tmp_path / "conversations.jsonl", mixed(3))
    embed(EmbedSettings(rows, tmp_path))
    changed = mixed(3)
    changed[5]["messages"][1]["content"] += "!"
    write(rows, changed)
    with pytest.raises(InputError, match="not the conversations"):
        make_map(MapSettings(tmp_path, tmp_path))
    rows.unlink()
    with pytest.raises(InputError, match="no such file"):
        make_map(MapSettings(tmp_path, tmp_path))
    moved = write(tmp_path / "moved" / "rows.jsonl", mixed(3))
    assert make_map(MapSettings(tmp_path, tmp_path, rows=moved, reduce="pca")).points == 12


def test_vectors_that_do_not_fit_their_manifest(tmp_path: Path) -> None:
    manifest = EmbeddingsManifest("x", None, 4, "rows.jsonl", "0", ("a", "b"))
    files.write(tmp_path, np.zeros((3, 4), np.float32), manifest)
    with pytest.raises(InputError, match="do not fit"):
        files.read(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not embeddings"):
        files.read(tmp_path)


@pytest.mark.parametrize("name", ["../up", "", "a/b", "a b", ".hidden"])
def test_names_that_are_no_file_names(tmp_path: Path, name: str) -> None:
    rows = write(tmp_path / "rows.jsonl", mixed(1))
    with pytest.raises(UsageError, match="--name"):
        make_map(MapSettings(rows, tmp_path, name=name))


@pytest.mark.parametrize(
    "wrong",
    [{"clusters": 0}, {"max_clusters": 1}, {"neighbors": 1}, {"page_chars": 0}, {"min_dist": 2.0}],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_first(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(UsageError, match="--"):
        make_map(MapSettings(tmp_path / "not-there", tmp_path, **wrong))


def test_long_conversations_are_cut_to_the_budget(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    rows = write(tmp_path / "rows.jsonl", [*mixed(2), conversation("long", "go on", long)])
    summary = make_map(MapSettings(rows, tmp_path, reduce="pca", page_chars=20_000))
    assert summary.cut == 1
    assert summary.limit < 20_000
    value = json.loads((tmp_path / "conversations.visualizer.json").read_text("utf-8"))
    assert len(value["text"][-1]) < 20_000
    assert "more characters]" in value["text"][-1]
    assert all("more characters]" not in text for text in value["text"][:-1])


@pytest.mark.parametrize(
    ("lengths", "budget", "limit"),
    [([10, 20, 30], 100, 30), ([1000, 5000, 90000], 10_000, 4500), ([], 10, 0), ([9], 4, 200)],
)
def test_the_limit_keeps_the_budget(lengths: list[int], budget: int, limit: int) -> None:
    assert limit_for(lengths, budget) == limit


def test_turns_of_other_roles_have_names() -> None:
    turns = [("system", "be kind"), ("user", "hi"), ("tool", "42")]
    assert visualizer.text_of(turns) == (
        "System: be kind<|end_of_turn|>Human: hi<|end_of_turn|>Tool: 42<|end_of_turn|>"
    )


def test_umap_without_its_extra_says_so(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(5))
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'umap' else real(n, *a)\n"
        "from openchat_cli.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    rows, out = str(tmp_path / "rows.jsonl"), str(tmp_path / "out")
    line = [sys.executable, "-c", code, "data", "map", rows, out]
    ended = subprocess.run([*line, "--reduce", "umap"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "openchat-cli[viz]" in ended.stderr
    ended = subprocess.run(line, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "PCA, because UMAP is not installed" in ended.stderr


@pytest.mark.slow
def test_real_chats_from_dump_to_map(openchat: RunCli, tmp_path: Path, shared_data: Path) -> None:
    dump = tmp_path / "in"
    dump.mkdir()
    for name in ("sharegpt_en_506.jsonl", "sharegpt_zh_300.jsonl"):
        (dump / name).write_bytes((shared_data / "conversations" / name).read_bytes())
    for line in (
        ("data", "clean", "in", "out", "--quiet"),
        ("data", "embed", "out", "out", "--quiet"),
        ("data", "map", "out", "out", "--quiet", "--reduce", "pca"),
    ):
        ended = openchat(*line, timeout=280)
        assert ended.returncode == 0, ended.stderr
    value = json.loads((tmp_path / "out" / "conversations.visualizer.json").read_text("utf-8"))
    assert len(value["text"]) > 700
    assert len(value["clusters"]) > 4
