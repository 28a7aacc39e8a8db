"""The built-in judge: no LLM, each answer is compared with the question's reference answer.

score = 1 + 9 · chrF / 100, with chrF from sacrebleu (Popović 2015): an F-score over character
n-grams, 0 to 100. There is no order in which answers could be shown, so that every pair has one
judgment, in the order "model_first".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache

from openchat_cli.core.errors import InputError
from openchat_cli.core.records import Judgment, Question
from openchat_cli.evaluation.judgments import Bench, Case
from openchat_cli.evaluation.settings import REFERENCE_JUDGE

PROTOCOL = "reference"


def check_references(questions: Iterable[Question], where: str) -> None:
    """Raise InputError where a question has no reference to compare with."""
    lacking = [question.question_id for question in questions if not question.reference]
    if lacking:
        some = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        hint = "add 'reference' to them (a list, one text a turn), or judge with --judge MODEL"
        count = f"{len(lacking)} question{'s' if len(lacking) > 1 else ''}"
        raise InputError(f"{where}: {count} without a reference ({some})", hint)


def judge_cases(cases: Iterable[Case]) -> Iterator[Judgment]:
    """One judgment for each pair."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    score = lru_cache(maxsize=None)(chrf)  # the baseline's answers come once for every model
    bench = Bench(REFERENCE_JUDGE, PROTOCOL)
    for case in cases:
        pair = case.pair
        if pair.fault is not None:
            yield bench.judgment(case, text=pair.fault, created=created, status="failed")
            continue
        reference = _joined(pair.question.reference or ())
        own, other = (score(_joined(a.turns), reference) for a in (pair.answer, pair.baseline))
        said = f"chrF against the reference: {own:.1f}, the baseline's {other:.1f}"
        scores = (1 + 9 * own / 100, 1 + 9 * other / 100)
        yield bench.judgment(case, text=said, created=created, scores=scores)


def chrf(text: str, reference: str) -> float:
    """chrF2 of a text, 0 to 100, with sacrebleu's defaults (6-grams, β = 2, no word n-grams)."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(text, [reference]).score)


def _joined(turns: tuple[str, ...]) -> str:
    return "\n\n".join(turns)
