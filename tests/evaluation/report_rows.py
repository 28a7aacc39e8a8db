"""Small runs for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openchat_cli.core import records
from openchat_cli.core.records import Answer, Judgment, Order, Question, Verdict

MODEL, BASELINE = "tiny", "before"
CREATED = "2026-03-01T10:00:00Z"


def judgment(
    question_id: str = "1",
    score: float | None = None,
    baseline_score: float | None = None,
    *,
    order: Order = "model_first",
    verdict: Verdict | None = None,
    **more: Any,
) -> Judgment:
    """A judgment with what matters to a test; the answers are `a-ID` and `b-ID`."""
    fields: dict[str, Any] = {
        "protocol": "pairwise",
        "sample": 0,
        "model": MODEL,
        "baseline": BASELINE,
        "answer_id": f"a-{question_id}",
        "baseline_answer_id": f"b-{question_id}",
        "status": "ok",
        "text": "because",
        "judge": "judge-1",
        "prompt_hash": "abc123",
        "usage": None,
        "created": CREATED,
        **more,
    }
    return Judgment(
        question_id=question_id,
        order=order,
        score=score,
        baseline_score=baseline_score,
        verdict=verdict,
        **fields,
    )


def both(
    question_id: str, first: tuple[float, float], second: tuple[float, float]
) -> list[Judgment]:
    """One question in both orders: (model, baseline) with the model first, then second."""
    return [
        judgment(question_id, *first),
        judgment(question_id, *second, order="baseline_first"),
    ]


def question(question_id: str, category: str = "general", text: str = "") -> Question:
    """A question of one turn with a reference."""
    return Question(question_id, category, (text or f"question {question_id}?",), ("reference",))


def answers(
    questions: Sequence[Question], model: str, prefix: str, texts: Sequence[str] = (), **more: Any
) -> list[Answer]:
    """An answer to each question, with the ids that `judgment` uses."""
    return [
        Answer(
            one.question_id,
            f"{prefix}-{one.question_id}",
            model,
            (texts[index] if texts else f"answer {one.question_id}",),
            **{"finish_reasons": ("stop",), **more},
        )
        for index, one in enumerate(questions)
    ]


def write_run(
    folder: Path,
    questions: Sequence[Question],
    judgments: Sequence[Judgment],
    *,
    model: Sequence[Answer] | None = None,
    baseline: Sequence[Answer] | None = None,
) -> Path:
    """A run folder as `eval answer`, `eval baseline` and `eval judge` leave it."""
    for name in ("answers", "baseline", "judgments"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    records.write(folder / "questions.jsonl", questions)
    records.write(folder / f"answers/{MODEL}.jsonl", model or answers(questions, MODEL, "a"))
    records.write(
        folder / f"baseline/{BASELINE}.jsonl", baseline or answers(questions, BASELINE, "b")
    )
    records.write(folder / f"judgments/{MODEL}_vs_{BASELINE}.jsonl", judgments)
    return folder
