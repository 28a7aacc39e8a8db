"""Near duplicates: found, told with the one they repeat, the same for any number of workers."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datasketch")

from openchat_cli.core.records import Message
from openchat_cli.data import near
from openchat_cli.data.clean import clean
from openchat_cli.data.settings import CleanSettings
from tests.conftest import ROOT, RunCli
from tests.data import faults


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(path: Path, made: list[faults.Planted]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for one in made:
            turns = [{"from": role, "value": text} for role, text in one.items]
            stream.write(json.dumps({"id": one.id, "conversations": turns}) + "\n")


def similarity(one: str, other: str) -> float:
    """The estimate for two conversations of a question and an answer."""
    index = near.Index(0.01)
    index.add("kept", near.signature([Message("user", one), Message("assistant", one)]))
    found = index.find(near.signature([Message("user", other), Message("assistant", other)]))
    return found[1] if found else 0.0


def test_planted_ones_are_found_and_told(openchat: RunCli, tmp_path: Path) -> None:
    made = faults.planted(300, seed=4)
    write(tmp_path / "in.jsonl", made)
    ended = openchat("data", "clean", "in.jsonl", "out", "--near-dup", "0.8", "--json")
    assert ended.returncode == 0, ended.stderr
    kept = [row["id"] for row in rows(tmp_path / "out" / "conversations.jsonl")]
    assert kept == [one.id for one in made if one.repeats is None]
    dropped = rows(tmp_path / "out" / "dropped.jsonl")
    assert {row["id"]: row["kept_id"] for row in dropped} == {
        one.id: one.repeats for one in made if one.repeats is not None
    }
    assert {row["reason"] for row in dropped} == {"near_duplicate"}
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    pairs = report["near_duplicates"]["pairs"]
    assert report["near_duplicates"]["threshold"] == 0.8
    assert report["reasons"] == {"near_duplicate": len(pairs)} == {"near_duplicate": len(dropped)}
    assert report["read"] == report["kept"] + report["dropped"]
    for pair, row in zip(pairs, dropped, strict=True):
        assert (pair["kept_id"], pair["dropped_id"]) == (row["kept_id"], row["id"])
        assert (pair["source"], pair["where"]) == (row["source"], row["where"])
        assert 0.8 <= pair["similarity"] <= 1
        assert row["detail"] == f"similarity {pair['similarity']}"


def test_bytes_are_the_same_for_any_workers_and_hash_seed(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", faults.planted(400, seed=9))
    for workers, seed in ((1, "0"), (3, "1")):
        out = f"out{workers}"
        options = ("--near-dup", "0.8", "--workers", workers, "--quiet")
        ended = openchat("data", "clean", "in.jsonl", out, *options, env={"PYTHONHASHSEED": seed})
        assert ended.returncode == 0, ended.stderr
    for name in ("conversations.jsonl", "dropped.jsonl", "clean.report.json"):
        found = {(tmp_path / f"out{workers}" / name).read_bytes() for workers in (1, 3)}
        assert len(found) == 1, name


def test_the_first_wins_and_an_equal_one_is_a_duplicate(tmp_path: Path) -> None:
    first, *_ = faults.planted(1, seed=1)
    words = first.items[0][1]
    near_it = faults.Planted("near", [(role, text + ".") for role, text in first.items], None)
    made = [first, near_it, faults.renamed(first, "same"), faults.renamed(near_it, "again")]
    write(tmp_path / "in.jsonl", made)
    clean(CleanSettings(tmp_path / "in.jsonl", tmp_path / "out", near_dup=0.8))
    dropped = rows(tmp_path / "out" / "dropped.jsonl")
    assert words
    assert [(row["id"], row["reason"], row["kept_id"], row["detail"]) for row in dropped] == [
        ("near", "near_duplicate", first.id, "similarity 1.0"),
        ("same", "duplicate", first.id, ""),
        ("again", "near_duplicate", first.id, "similarity 1.0"),
    ]


def test_without_the_option_only_equal_ones_go(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", faults.planted(30, seed=2))
    summary = clean(CleanSettings(tmp_path / "in.jsonl", tmp_path / "out"))
    assert (summary.kept, summary.dropped) == (30, 0)


TEXT = "The quick brown fox jumps over the lazy dog while the cat sleeps on the warm red mat."


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        (TEXT, TEXT.upper().replace(".", " !"), 1.0, 1.0),
        (TEXT, TEXT.replace("lazy", "tired"), 0.6, 0.9),
        (TEXT, "Nothing of this kind was ever said by anybody here or there.", 0.0, 0.1),
        ("hi", "Hi!", 1.0, 1.0),
        ("hi", "ho", 0.0, 0.1),
        ("?", "!", 0.0, 0.1),
        ("", "", 1.0, 1.0),
        (
            "请解释一下快速排序算法的平均时间复杂度。",
            "请解释一下快速排序算法的平均时间复杂度",
            1.0,
            1.0,
        ),
        (
            "请解释一下快速排序算法的平均时间复杂度",
            "请写一首关于春天的七言绝句并且解释它的意思",
            0.0,
            0.3,
        ),
        ("ภาษาไทยไม่มีช่องว่าง", "ภาษาไทยไม่มีช่องว่าง ", 1.0, 1.0),
    ],
)
def test_similarity(one: str, other: str, low: float, high: float) -> None:
    assert low <= similarity(one, other) <= high


def test_the_estimate_is_the_jaccard_index() -> None:
    chance = random.Random(3)
    errors = []
    for shared in (50, 200, 400, 450):
        words = [f"w{number}" for number in range(1000)]
        chance.shuffle(words)
        one, other = words[:500], words[:shared] + words[500 : 1000 - shared]
        pairs = [set(itertools.pairwise(text)) for text in (one, other)]
        true = len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1])
        errors.append(abs(similarity(" ".join(one), " ".join(other)) - true))
    assert max(errors) < 0.11  # 2.5 standard errors


def test_roles_count() -> None:
    index = near.Index(0.5)
    index.add("a", near.signature([Message("user", TEXT), Message("assistant", "yes")]))
    assert index.find(near.signature([Message("user", "yes"), Message("assistant", TEXT)])) is None


def test_the_most_similar_is_named_the_first_of_equals() -> None:
    index = near.Index(0.3)
    for name, text in (("far", TEXT[:60]), ("first", TEXT), ("second", TEXT)):
        index.add(name, near.signature([Message("user", text)]))
    assert index.find(near.signature([Message("user", TEXT)])) == ("first", 1.0)


def test_a_signature_is_the_same_in_every_process() -> None:
    own = near.signature([Message("user", TEXT), Message("assistant", "快速排序 and more")])
    code = (
        "from openchat_cli.core.records import Message; from openchat_cli.data import near;"
        f"print(near.signature([Message('user', {TEXT!r}), "
        "Message('assistant', '快速排序 and more')]).hex())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ended.stdout.strip() == own.hex()
    # What another machine or version gives: these bytes may only change with the format.
    assert own[:8].hex() == GOLDEN


GOLDEN = "92504518f188de04"


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.9, 0.99])
def test_the_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    bands, rows_ = near.bands(threshold)
    assert bands * rows_ <= near.PERMUTATIONS
    assert 1 - (1 - threshold**rows_) ** bands >= 0.98


@pytest.mark.parametrize("value", ["0", "1.5", "-1", "nan"])
def test_a_threshold_that_cannot_work(openchat: RunCli, tmp_path: Path, value: str) -> None:
    write(tmp_path / "in.jsonl", faults.planted(3, seed=1))
    ended = openchat("data", "clean", "in.jsonl", "out", f"--near-dup={value}")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: --near-dup {value}")
    assert not (tmp_path / "out").exists()


def test_without_the_extra_nothing_is_begun(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", faults.planted(3, seed=1))
    code = (
        "import importlib.util as u, sys; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'datasketch' else find(name, *rest);"
        "from openchat_cli.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "data", "clean", "in.jsonl", "out", "--near-dup", "0.8"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 2
    assert "pip install 'openchat-cli[data]'" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["words", "characters", "one word", "punctuation"])
def test_a_megabyte_is_no_burden(kind: str) -> None:
    chance = random.Random(1)
    text = {
        "words": " ".join(str(chance.random())[2:9] for _ in range(125_000)),
        "characters": " ".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=500_000)),
        "one word": "a" * 1_000_000,
        "punctuation": "!?" * 500_000,
    }[kind]
    near.signature([Message("user", "warm")])
    began = time.process_time()
    near.signature([Message("user", text)])
    assert time.process_time() - began < 2
