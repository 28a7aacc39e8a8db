"""Making judgment rows, whoever judged."""

from __future__ import annotations

from dataclasses import dataclass

from openchat_cli.core.records import Judgment, Order, Status
from openchat_cli.evaluation.pairs import Pair
from openchat_cli.evaluation.statistics import verdict_of


@dataclass(frozen=True, slots=True)
class Case:
    """One verdict to be had: a pair, the order in which it is shown, which of the samples."""

    pair: Pair
    order: Order = "model_first"
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Bench:
    """What the judgments of one judge have in common."""

    judge: str
    protocol: str
    prompt_hash: str = ""

    def judgment(
        self,
        case: Case,
        *,
        text: str,
        created: str,
        scores: tuple[float, float] | None = None,
        status: Status = "ok",
        usage: dict[str, int] | None = None,
    ) -> Judgment:
        """The row; `scores` are the model's and the baseline's, whatever the order shown."""
        score, baseline_score = scores or (None, None)
        pair = case.pair
        return Judgment(
            question_id=pair.question.question_id,
            protocol=self.protocol,
            order=case.order,
            sample=case.sample,
            model=pair.answer.model,
            baseline=pair.baseline.model,
            answer_id=pair.answer.answer_id,
            baseline_answer_id=pair.baseline.answer_id,
            score=score,
            baseline_score=baseline_score,
            verdict=verdict_of(scores[0] - scores[1]) if scores else None,
            status=status,
            text=text,
            judge=self.judge,
            prompt_hash=self.prompt_hash,
            usage=usage,
            created=created,
        )
