"""One model against one baseline as one judge saw them: which questions count, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from openchat_cli.core.records import Judgment, Order
from openchat_cli.evaluation import statistics
from openchat_cli.evaluation.figures import (
    Bootstrap,
    BothOrders,
    Figures,
    Item,
    both_orders,
    by_category,
    figures,
)
from openchat_cli.evaluation.run_files import AnswerSet, Run
from openchat_cli.evaluation.settings import REFERENCE_JUDGE
from openchat_cli.evaluation.statistics import ORDERS


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the leaderboard with all that stands behind it."""

    run: str
    model: str
    baseline: str
    judge: str
    protocol: str
    prompt_hash: str
    judged: tuple[str, str]  # first and last date
    orders: tuple[Order, ...]
    samples: int
    overall: Figures
    categories: Mapping[str, Figures]
    both_orders: BothOrders | None
    first_place: float | None  # P(answer shown first wins), percent
    excluded: Mapping[str, int]  # reason -> questions
    judgments: Mapping[str, int]  # status -> judgments
    items: tuple[Item, ...]

    @property
    def label(self) -> str:
        """The comparison in words."""
        return f"{self.model} vs {self.baseline}"

    @property
    def prompts(self) -> str:
        """Whose judge prompts these are: no benchmark's name without the benchmark's prompt."""
        if self.judge == REFERENCE_JUDGE:
            return "no prompt"
        return "own prompts" if self.prompt_hash else "prompt not recorded"

    @property
    def cautions(self) -> list[str]:
        """What a reader must know before quoting the figures."""
        return list(_cautions(self))


def _cautions(comparison: Comparison) -> Iterator[str]:
    if comparison.judge == REFERENCE_JUDGE:
        yield (
            "No LLM judged: each answer was compared with a reference answer (chrF, scaled to "
            "1-10)."
        )
    elif len(comparison.orders) == 1:
        yield "Judged in one order only: the figures hold the judge's position bias."
    if comparison.judge in (comparison.model, comparison.baseline):
        yield "The judge is one of the two models it judges."
    if comparison.overall.standing == "not distinguishable":
        yield f"Not distinguishable from 100 % at n = {comparison.overall.n}."
    if comparison.excluded:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in comparison.excluded.items())
        yield f"Questions excluded: {reasons}."


def compare(run: Run, bootstrap: Bootstrap) -> list[Comparison]:
    """The comparisons of a run: one for each model, baseline, judge, protocol and prompt."""
    groups: dict[tuple[str, ...], list[Judgment]] = {}
    for judgment in run.judgments:
        key = (judgment.model, judgment.baseline, judgment.judge, judgment.protocol)
        groups.setdefault(key, []).append(judgment)
    return [
        _comparison(run, same, bootstrap) for group in groups.values() for same in _by_prompt(group)
    ]


def _by_prompt(group: Sequence[Judgment]) -> list[list[Judgment]]:
    """Verdicts under different prompts apart; a failed call belongs to whatever prompts there are.

    A call that failed before there was anything to ask has no prompt of its own.
    """
    prompts = list(dict.fromkeys(j.prompt_hash for j in group if j.prompt_hash or j.status == "ok"))
    if len(prompts) < 2:
        return [list(group)]
    return [
        [j for j in group if j.prompt_hash == prompt or (j.status != "ok" and not j.prompt_hash)]
        for prompt in prompts
    ]


def _comparison(run: Run, group: Sequence[Judgment], bootstrap: Bootstrap) -> Comparison:
    head = max(group, key=lambda judgment: judgment.prompt_hash)
    sides = _Sides(
        run,
        run.answers.get(head.model),
        run.baseline(head.baseline),
        tuple(order for order in ORDERS if any(j.order == order for j in group)),
    )
    judgments = _latest(group)
    items = tuple(sides.items(judgments))
    scored = [item for item in items if item.excluded is None]
    readable = [j for item in scored for j in item.judgments if j.status == "ok"]
    dates = sorted(j.created for j in group if j.created) or [""]
    return Comparison(
        run=run.name,
        model=head.model,
        baseline=head.baseline,
        judge=head.judge,
        protocol=head.protocol,
        prompt_hash=head.prompt_hash,
        judged=(dates[0], dates[-1]),
        orders=sides.orders,
        samples=len({j.sample for j in group}),
        overall=figures(scored, bootstrap),
        categories=by_category(scored, bootstrap),
        both_orders=both_orders(scored),
        first_place=statistics.first_place_rate(readable) if len(sides.orders) == 2 else None,
        excluded=dict(Counter(item.excluded for item in items if item.excluded).most_common()),
        judgments=dict(Counter(j.status for j in judgments)),
        items=items,
    )


def _latest(group: Sequence[Judgment]) -> list[Judgment]:
    """A rerun writes a judgment anew: the last one counts."""
    latest = {
        (j.question_id, j.order, j.sample, j.answer_id, j.baseline_answer_id): j for j in group
    }
    return list(latest.values())


def _place(judgment: Judgment) -> tuple[int, int]:
    return ORDERS.index(judgment.order), judgment.sample


@dataclass(frozen=True, slots=True)
class _Sides:
    """Both models' answers, where they are at hand, and the orders in which they were judged."""

    run: Run
    model: AnswerSet | None
    baseline: AnswerSet | None
    orders: tuple[Order, ...]

    def items(self, judgments: Sequence[Judgment]) -> Iterator[Item]:
        """Every question of the comparison, in the benchmark's order, others after."""
        judged: dict[str, list[Judgment]] = {}
        for judgment in judgments:
            judged.setdefault(judgment.question_id, []).append(judgment)
        answered = [q for side in (self.model, self.baseline) if side for q in side.by_question]
        for question_id in dict.fromkeys([*self.run.questions, *answered, *judged]):
            of_it = judged.get(question_id, [])
            yield self._item(question_id, sorted(of_it, key=_place))

    def _item(self, question_id: str, judgments: Sequence[Judgment]) -> Item:
        question = self.run.questions.get(question_id)
        category = question.category if question else "general"
        current = [j for j in judgments if self._is_current(j)]
        ok = [j for j in current if j.status == "ok" and statistics.judgment_verdict(j)]
        reason = self._exclusion(question_id, judgments, current, ok)
        if reason:
            return Item(question_id, category, tuple(judgments), excluded=reason)
        scores = statistics.balanced_scores(ok, self.orders)
        verdicts = [v for order in self.orders if (v := statistics.order_verdict(ok, order))]
        single = [v for j in ok if (v := statistics.judgment_verdict(j))]
        return Item(
            question_id,
            category,
            tuple(current),
            score=scores[0] if scores else None,
            baseline_score=scores[1] if scores else None,
            verdict=(
                statistics.verdict_of(scores[0] - scores[1])
                if scores
                else statistics.agreed_verdict(verdicts[0], verdicts[-1])
            ),
            by_order=(verdicts[0], verdicts[1]) if len(verdicts) == 2 else None,
            entropy=statistics.diversity_entropy(single) if len(single) > 1 else None,
        )

    def _is_current(self, judgment: Judgment) -> bool:
        """Whether the judged answers are those at hand; unknown answers are taken on trust."""
        return (
            self.model is None or self.model.has(judgment.question_id, judgment.answer_id)
        ) and (
            self.baseline is None
            or self.baseline.has(judgment.question_id, judgment.baseline_answer_id)
        )

    def _exclusion(
        self,
        question_id: str,
        judgments: Sequence[Judgment],
        current: Sequence[Judgment],
        ok: Sequence[Judgment],
    ) -> str | None:
        """Why a question can't be scored, or None."""
        if all(any(j.order == order for j in ok) for order in self.orders):
            return None
        statuses = {j.status for j in current}
        reasons = {
            "no answer from the model": self.model and not self.model.usable(question_id),
            "no answer from the baseline": self.baseline and not self.baseline.usable(question_id),
            "verdict could not be read": "unreadable" in statuses,
            "judge call failed": "failed" in statuses,
            "answer changed after it was judged": len(current) < len(judgments),
            "judged in one order only": bool(ok),
        }
        return next((reason for reason, holds in reasons.items() if holds), "not judged")
