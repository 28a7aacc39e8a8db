"""The dataset through its memory-mapped twin: the same as parsed, or not used."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from openchat_cli.core.dataset import CacheWriter, Key, UnfitError, cache_of, open_cache
from openchat_cli.core.errors import InputError
from openchat_cli.core.together import written_together
from openchat_cli.training import dataset
from tests.training import data
from tests.training.test_train import column, command


@pytest.fixture
def train(tmp_path: Path) -> Path:
    folder = data.write_dataset(tmp_path / "data", data.records(40))
    return folder / "openchat.train.json"


def same(found: dataset.TokenDataset, records: list[data.Record]) -> bool:
    got = [(ids.tolist(), mask.tolist()) for ids, mask, _ in map(found.record, range(len(found)))]
    return got == [(ids, mask) for ids, mask in records]


def is_mapped(found: dataset.TokenDataset) -> bool:
    return isinstance(found.ids, np.memmap)


def add_weights(folder: Path, weights: list[float], name: str = "openchat") -> None:
    """Twins with a weight for each conversation, and a manifest that tells of them."""
    import hashlib

    manifest_file = folder / f"{name}.dataset.json"
    manifest = json.loads(manifest_file.read_text()) | {"weighted": True, "files": {}}
    for part in ("train", "eval"):
        path = folder / f"{name}.{part}.json"
        records = json.loads(path.read_text())
        with written_together([cache_of(path)]) as (stream,):
            total = sum(len(ids) for ids, _ in records)
            writer = CacheWriter(
                stream, conversations=len(records), tokens=total, vocab_size=data.VOCABULARY
            )
            for (ids, mask), weight in zip(records, weights, strict=False):
                packed = np.array(ids, dtype=np.int32).tobytes()
                writer.add(packed, [(1, weight if flag else 0.0) for flag in mask])
            writer.finish(Key.of(path))
        digest = hashlib.sha256(cache_of(path).read_bytes()).hexdigest()
        manifest["files"][cache_of(path).name] = {"sha256": digest}
    manifest_file.write_text(json.dumps(manifest))


# --- the twin ---


def test_it_is_made_where_it_is_missing_then_mapped(train: Path) -> None:
    plain = dataset.load(train, data.VOCABULARY)
    assert not is_mapped(plain.data) and not cache_of(train).exists()
    first = dataset.load(train, data.VOCABULARY, build=True)
    assert first.note is not None and "missing, made anew" in first.note
    again = dataset.load(train, data.VOCABULARY)
    assert again.note is None and is_mapped(again.data)
    for found in (plain.data, first.data, again.data):
        assert same(found, data.records(40))
    for name in ("lengths", "supervised", "shares"):
        assert getattr(plain.data, name).tolist() == getattr(again.data, name).tolist()


def test_another_json_is_never_read_through_it(train: Path) -> None:
    dataset.load(train, data.VOCABULARY, build=True)
    other = data.records(40)
    other[7][0][3] = (other[7][0][3] % 9) + 1  # one digit, so the size stays
    text = json.dumps(other)
    train.write_text(text[:-1] + " " * (train.stat().st_size - len(text)) + "]")
    found = dataset.load(train, data.VOCABULARY)
    assert not is_mapped(found.data) and same(found.data, other)
    built = dataset.load(train, data.VOCABULARY, build=True)
    assert "made from another JSON, made anew" in (built.note or "")
    assert is_mapped(built.data) and same(built.data, other)


def test_no_damage_goes_unseen(train: Path) -> None:
    dataset.load(train, data.VOCABULARY, build=True)
    path = cache_of(train)
    whole = path.read_bytes()
    key = Key.of(train)
    places = [0, 7, 9, 300, 700, *range(2048, len(whole), 97), len(whole) - 1]
    for at in places:
        broken = bytearray(whole)
        broken[at] ^= 0x55
        path.write_bytes(broken)
        with pytest.raises(UnfitError):
            open_cache(path, key)
    for size in (0, 5, 100, 2048, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UnfitError):
            open_cache(path, key)
    path.write_bytes(whole + b"\0")
    with pytest.raises(UnfitError):
        open_cache(path, key)
    for head in ({}, [], {"__metadata__": {}}, {"__metadata__": None}):
        text = json.dumps(head).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(UnfitError):
            open_cache(path, key)
    found = dataset.load(train, data.VOCABULARY, build=True)
    assert "damaged, made anew" in (found.note or "") and path.read_bytes() == whole


def test_where_it_can_not_be_written_the_json_is_parsed(train: Path) -> None:
    cache_of(train).mkdir()  # nothing can be renamed to this
    found = dataset.load(train, data.VOCABULARY, build=True)
    assert "can't be written: each rank parses openchat.train.json" in (found.note or "")
    assert same(found.data, data.records(40))
    assert not list(train.parent.glob(".*"))


def test_of_several_processes_one_makes_it(train: Path) -> None:
    notes: list[str | None] = []

    def run() -> None:
        notes.append(dataset.load(train, data.VOCABULARY, build=True).note)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(note is not None for note in notes) == 1


def test_an_id_outside_the_vocabulary_is_named(train: Path) -> None:
    dataset.load(train, data.VOCABULARY, build=True)
    highest = max(max(ids) for ids, _ in data.records(40))
    with pytest.raises(InputError) as parsed:
        dataset.read(train, highest)
    with pytest.raises(InputError) as mapped:
        dataset.load(train, highest)
    assert mapped.value.message == parsed.value.message


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_the_json_is_read_in_blocks_of_any_size(
    train: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_BLOCK", block)
    records = data.records(12)
    train.write_text("\ufeff" + json.dumps(records, indent=1), "utf-8")
    assert same(dataset.read(train, data.VOCABULARY), records)


# --- weights ---


def test_weights_without_their_twin_are_refused(train: Path) -> None:
    folder = train.parent
    add_weights(folder, [0.5] * 40)
    found = dataset.load(train, data.VOCABULARY).data
    assert found.weights is not None
    assert found.shares.tolist() == (found.supervised * 0.5).tolist()
    before = cache_of(train).read_bytes()
    cache_of(train).unlink()
    for build in (False, True):
        with pytest.raises(InputError, match="missing, and the weights"):
            dataset.load(train, data.VOCABULARY, build=build)
    # A twin of the same JSON with other weights is not the one of this manifest.
    manifest = (folder / "openchat.dataset.json").read_text()
    add_weights(folder, [0.25] * 40)
    (folder / "openchat.dataset.json").write_text(manifest)
    with pytest.raises(InputError, match="not the one that the manifest names"):
        dataset.load(train, data.VOCABULARY)
    cache_of(train).write_bytes(before)
    assert is_mapped(dataset.load(train, data.VOCABULARY).data)


# --- training ---


def run(folder: Path, out: Path, model: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openchat_cli", *command(model, folder, out, *options)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def short(tmp_path: Path) -> Path:
    return data.write_dataset(tmp_path / "short", data.records(10))


def losses(out: Path) -> list[float]:
    return column(out, "loss") + column(out, "loss", "eval")


@pytest.mark.slow
def test_training_is_the_same_with_and_without(model: Path, short: Path, tmp_path: Path) -> None:
    """To the last digit; the first run makes the twins, the third can't."""
    for name in ("made", "mapped"):
        ended = run(short, tmp_path / name, model, "--epochs", 1)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("made anew") == (2 if name == "made" else 0)
    for part in ("train", "eval"):
        twin = short / f"openchat.{part}.safetensors"
        twin.unlink()
        twin.mkdir()
    ended = run(short, tmp_path / "parsed", model, "--epochs", 1)
    assert ended.returncode == 0 and ended.stderr.count("each rank parses") == 2
    made, mapped, parsed = (losses(tmp_path / name) for name in ("made", "mapped", "parsed"))
    assert made == mapped == parsed and len(made) == 4


def test_a_dry_run_makes_no_twin(model: Path, short: Path, tmp_path: Path) -> None:
    ended = run(short, tmp_path / "out", model, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert not list(short.glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_one_weight_for_all_changes_nothing(
    model: Path, short: Path, tmp_path: Path, ranks: int
) -> None:
    options = ("--num-gpus", ranks)
    assert run(short, tmp_path / "plain", model, *options).returncode == 0
    add_weights(short, [0.25] * 10)
    ended = run(short, tmp_path / "weighted", model, *options)
    assert ended.returncode == 0, ended.stderr
    assert losses(tmp_path / "weighted") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)


@pytest.mark.slow
def test_a_weight_counts_as_so_many_copies(model: Path, short: Path, tmp_path: Path) -> None:
    """Weight 3 for one conversation is as good as having it three times, weight 0 as not at all."""
    records = data.records(5)
    folder = data.write_dataset(tmp_path / "weighted", records, records)
    add_weights(folder, [3.0, 1.0, 1.0, 1.0, 0.0])
    copies = [records[0], records[0], *records[:4]]
    data.write_dataset(tmp_path / "copies", copies, copies)
    found = []
    for name in ("weighted", "copies"):
        out = tmp_path / f"{name}-out"
        ended = run(tmp_path / name, out, model, "--epochs", 1, "--batch-size", 6)
        assert ended.returncode == 0, ended.stderr
        found.append((column(out, "loss")[0], column(out, "loss", "eval")[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert math.isfinite(found[0][0])
