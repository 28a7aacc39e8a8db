"""The demo's pages and questions: what is in them, and that half of the questions are held out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.cli import demo
from openchat_cli.core import records
from openchat_cli.core.records import Conversation, Question
from openchat_cli.data import split
from openchat_cli.data.settings import ConvertSettings
from tests.conftest import RunCli

EVAL_RATIO = 0.15  # as the demo converts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("assets")
    demo.unpack(found)
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def conversations(folder: Path, openchat: RunCli) -> list[Conversation]:
    """What cleaning and filtering leave of the pages."""
    filtered = folder / "data" / "filtered.jsonl"
    if not filtered.exists():
        for command in (
            ("clean", folder / "pages", folder / "data"),
            ("filter", folder / "data", folder / "data", "--model", "GPT-4"),
        ):
            ended = openchat("data", *command)
            assert ended.returncode == 0, ended.stderr
    return list(records.read(filtered, Conversation))


def asked(conversations: list[Conversation]) -> str:
    return "\n".join(m.content for c in conversations for m in c.messages if m.role == "user")


def test_every_way_to_drop_a_page_is_shown(folder: Path, conversations: list[Conversation]) -> None:
    reasons = Counter(row["reason"] for row in rows(folder / "data" / "dropped.jsonl"))
    assert reasons == {
        "duplicate": 4,
        "blocked_word": 2,
        "bad_json": 1,
        "no_content": 1,
        "no_data": 1,
        "not_html": 1,
        "not_utf8": 1,
        "too_short": 1,
    }
    kept = rows(folder / "data" / "conversations.jsonl")
    models = Counter(row["model"] for row in kept)
    assert models == {"Model: GPT-4": 67, "Model: Default (GPT-3.5)": 5}


def test_what_the_pages_hold_survives_cleaning(conversations: list[Conversation]) -> None:
    texts = [m.content for c in conversations for m in c.messages]
    assert any("```python\ndef late_fee(days_late: int) -> int:\n    " in text for text in texts)
    assert any("| Tuesday | 10 to 18 |" in text for text in texts)
    assert any("\n1. Bring a photo card" in text for text in texts)
    for word in ("帐篷", "テント", "الخيمة", "Bohrmaschine", "tienda", "étagère"):
        assert any(word in text for text in texts), word
    assert not any("Copy code" in text or "2 / 2" in text for text in texts)
    assert all(c.messages[0].role == "user" for c in conversations)
    assert all(c.messages[-1].role == "assistant" for c in conversations)


def test_half_of_the_questions_are_held_out_of_training(
    folder: Path, conversations: list[Conversation]
) -> None:
    questions = list(records.read(folder / "eval" / "questions.jsonl", Question))
    assert Counter(q.category for q in questions) == {"seen": 24, "held out": 24}
    ranks = [split.rank(ConvertSettings.seed, c.id) for c in conversations]
    apart = split.held_out(ranks, split.held_out_count(len(ranks), EVAL_RATIO))
    training = [c for index, c in enumerate(conversations) if index not in apart]
    trained_on, everything = asked(training), asked(conversations)
    for question in questions:
        where = trained_on if question.category == "seen" else everything
        inside = question.turns[0] in where
        assert inside == (question.category == "seen"), question.turns[0]


def test_what_is_asked_is_taught(folder: Path, conversations: list[Conversation]) -> None:
    answers = {m.content for c in conversations for m in c.messages if m.role == "assistant"}
    for question in records.read(folder / "eval" / "questions.jsonl", Question):
        assert question.reference is not None
        assert question.reference[0] in answers, question.turns[0]


def test_the_pages_are_small() -> None:
    assets = Path(demo.__file__).parent.parent / "assets"
    size = sum(path.stat().st_size for path in assets.rglob("*") if path.is_file())
    assert size < 1_000_000
