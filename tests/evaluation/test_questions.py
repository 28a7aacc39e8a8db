"""The project's own 80 questions: their shape, their spread, and that the code in them runs."""

from __future__ import annotations

import difflib
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from openchat_cli.core import records
from openchat_cli.core.records import Question
from tests.conftest import SHARED

PATH = Path(str(resources.files("openchat_cli.evaluation") / "assets" / "questions.jsonl"))
SPREAD = {
    "generic": 10,
    "knowledge": 10,
    "roleplay": 10,
    "common-sense": 10,
    "fermi": 10,
    "counterfactual": 10,
    "coding": 7,
    "math": 3,
    "writing": 10,
}
VICUNA = SHARED / "eval/vicuna/question.jsonl"


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return list(records.read(PATH, Question))


def blocks(questions: list[Question], language: str) -> list[str]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [code for q in questions for text in q.reference or () for code in fence.findall(text)]


def test_ids_and_spread(questions: list[Question]) -> None:
    assert [q.question_id for q in questions] == [f"oc-{n:03d}" for n in range(1, 81)]
    assert Counter(q.category for q in questions) == SPREAD
    assert list(dict.fromkeys(q.category for q in questions)) == list(SPREAD), "grouped"


def test_every_question_has_one_turn_and_a_full_reference(questions: list[Question]) -> None:
    for question in questions:
        assert len(question.turns) == 1
        assert question.reference is not None and len(question.reference) == 1
        assert 80 <= len(question.reference[0].split()) <= 280, question.question_id
        for text in (*question.turns, *question.reference):
            assert text == text.strip()
            assert text.count("```") % 2 == 0


def test_no_two_are_alike(questions: list[Question]) -> None:
    turns = [question.turns[0].casefold() for question in questions]
    for at, one in enumerate(turns):
        for other in turns[at + 1 :]:
            assert difflib.SequenceMatcher(None, one, other).ratio() < 0.7, (one, other)


@pytest.mark.skipif(not VICUNA.is_file(), reason="Vicuna's questions are not in ../shared/data")
def test_they_are_not_vicunas(questions: list[Question]) -> None:
    theirs = [question.turns[0].casefold() for question in records.read(VICUNA, Question)]
    for question in questions:
        one = question.turns[0].casefold()
        close = max(difflib.SequenceMatcher(None, one, other).ratio() for other in theirs)
        assert close < 0.65, (question.question_id, close)


def test_python_in_the_references_runs(questions: list[Question]) -> None:
    found = blocks(questions, "python")
    assert len(found) == 5
    for code in found:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_sql_in_the_references_gives_what_it_says(questions: list[Question]) -> None:
    (query,) = blocks(questions, "sql")
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE orders (id, customer_id, ordered_on TEXT, total)")
        base.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            [
                (1, 7, "2026-01-05", 10),
                (2, 7, "2026-03-31", 20),
                (3, 7, "2026-03-31", 30),
                (4, 8, "2025-01-01", 40),
                (5, 8, "2026-06-29", 50),
                (6, 9, "2026-04-01", 60),
                (7, 5, "2024-02-29", 70),
            ],
        )
        rows = base.execute(query).fetchall()
    base.close()
    assert rows == [(5, "2024-02-29", 70), (7, "2026-03-31", 30)]


@pytest.mark.skipif(sys.platform != "linux", reason="the script says that it needs GNU find")
def test_bash_in_the_references_runs(questions: list[Question], tmp_path: Path) -> None:
    (script,) = blocks(questions, "bash")
    (tmp_path / "largest.sh").write_text(script)
    folder = tmp_path / "a folder"
    folder.mkdir()
    for size in range(1, 13):
        (folder / f"file * {size}").write_bytes(b"x" * size)
    command = ["bash", str(tmp_path / "largest.sh")]
    ended = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [f"{n}\t{folder}/file * {n}" for n in range(12, 2, -1)]
    assert subprocess.run(command, capture_output=True).returncode == 2
    assert subprocess.run([*command, "/nowhere"], capture_output=True).returncode == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_in_the_references_runs(questions: list[Question], tmp_path: Path) -> None:
    (script,) = blocks(questions, "javascript")
    (tmp_path / "debounce.js").write_text(script)
    ended = subprocess.run(
        ["node", str(tmp_path / "debounce.js")], capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, "")
