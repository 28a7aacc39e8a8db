"""Small runs for the tests: questions, answers, and reading what was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openchat_cli.core import records
from openchat_cli.core.records import Answer, Question

CATEGORIES = ("writing", "coding", "math", "roleplay")


def questions(count: int = 6, *, reference: bool = True) -> list[Question]:
    return [
        Question(
            str(number),
            CATEGORIES[number % len(CATEGORIES)],
            (f"What is the number {number}?",),
            (f"The number {number} is {number}.",) if reference else None,
        )
        for number in range(1, count + 1)
    ]


def answers(model: str, asked: Sequence[Question], *, length: int = 30) -> list[Answer]:
    return [
        Answer(
            question.question_id,
            f"{model}-{question.question_id}",
            model,
            (f"{question.question_id}: {'word ' * (length // 5)}",),
            finish_reasons=("stop",),
        )
        for question in asked
    ]


def make_run(
    out: Path, count: int = 6, *, models: Sequence[str] = ("ours",), baseline: str = "base"
) -> list[Question]:
    """A run with questions, answers of models (longer ones) and of a baseline (shorter)."""
    asked = questions(count)
    (out / "answers").mkdir(parents=True)
    (out / "baseline").mkdir()
    records.write(out / "questions.jsonl", asked)
    for index, model in enumerate(models):
        records.write(
            out / "answers" / f"{model}.jsonl", answers(model, asked, length=40 + 10 * index)
        )
    records.write(out / "baseline" / f"{baseline}.jsonl", answers(baseline, asked, length=20))
    return asked


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
