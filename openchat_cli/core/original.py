"""Result rows of the original OpenChat's evaluation (2023), as rows of ours.

Its `score` holds `raw_a` (the model shown first) and `raw_b` (the baseline shown first), each as
[[model's score, baseline's score], review]. Two zeros mean that its parser read none.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

_ORDERS = (("raw_a", "model_first"), ("raw_b", "baseline_first"))


def is_result(row: Row) -> bool:
    """Whether a row is such a result."""
    score = row.get("score")
    return isinstance(score, dict) and "raw_a" in score and "raw_b" in score


def judgment_rows(row: Row) -> list[Row]:
    """Two rows of judgments, one for each order. The baseline has no name in a result.

    A review of another shape becomes a row that can't be read as a judgment.
    """
    score = row["score"]
    common = {
        "question_id": row.get("question_id"),
        "protocol": "pairwise-scores",
        "model": str(row.get("answer_model", "")).rstrip("/").rpartition("/")[2],
        "baseline": row.get("baseline", "baseline"),
        "answer_id": row.get("answer_id", row.get("question_id")),
        "baseline_answer_id": row.get("question_id"),
        "judge": _judge(score.get("reviewer")),
    }
    return [{**common, "order": order, **_review(score[name])} for name, order in _ORDERS]


def _judge(reviewer: Any) -> str:
    match reviewer:
        case {"kwargs": {"model": str() as model}}:
            return model
    return "unknown"


def _review(raw: Any) -> Row:
    match raw:
        case [[int() | float() as own, int() | float() as other], str() as text]:
            if own == other == 0:
                return {"status": "unreadable", "text": text}
            verdict = "tie" if own == other else "win" if own > other else "loss"
            return {"score": own, "baseline_score": other, "verdict": verdict, "text": text}
    return {"text": raw}
