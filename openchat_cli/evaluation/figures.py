"""The figures of scored questions: every number with the questions behind it and its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from openchat_cli.core.records import Judgment, Verdict
from openchat_cli.evaluation import statistics
from openchat_cli.evaluation.statistics import Interval, WinRate

VERDICTS: tuple[Verdict, ...] = ("win", "tie", "loss")

Standing = Literal["ahead", "behind", "not distinguishable"]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a comparison; `excluded` says why it is in no figure."""

    question_id: str
    category: str
    judgments: tuple[Judgment, ...]
    excluded: str | None = None
    score: float | None = None
    baseline_score: float | None = None
    verdict: Verdict | None = None
    by_order: tuple[Verdict, Verdict] | None = None  # model first, baseline first
    entropy: float | None = None

    @property
    def conflict(self) -> bool:
        """Whether the verdict changes with the order of the answers."""
        return self.by_order is not None and self.by_order[0] != self.by_order[1]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, the questions behind it and its 95 % interval (None where n is too small)."""

    value: float
    n: int
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a set of scored questions says; `score` is percent of the baseline, `difference` points.

    Both are None where the protocol gives verdicts and no scores.
    """

    n: int
    score: Figure | None
    difference: Figure | None
    wins: int
    ties: int
    losses: int
    win_rate: WinRate | None

    @property
    def standing(self) -> Standing | None:
        """Whether the score's interval lies above or below 100 %, or holds it."""
        if self.score is None or self.score.interval is None:
            return None
        if self.score.interval.holds(100.0):
            return "not distinguishable"
        return "ahead" if self.score.value > 100 else "behind"


@dataclass(frozen=True, slots=True)
class BothOrders:
    """How the judge's verdicts depend on the order, over the questions that have both."""

    n: int
    conflicts: int
    agreed: tuple[int, int, int]  # win, tie, loss where a win needs both orders
    adjusted_win_rate: WinRate | None
    matrix: tuple[tuple[int, ...], ...]  # [model first][baseline first], win, tie, loss


def figures(items: Sequence[Item], bootstrap: Bootstrap) -> Figures:
    """The figures of scored questions."""
    pairs = [
        (item.score, item.baseline_score)
        for item in items
        if item.score is not None and item.baseline_score is not None
    ]
    verdicts = [item.verdict for item in items if item.verdict]
    return Figures(
        n=len(items),
        score=_score([m for m, _ in pairs], [b for _, b in pairs], bootstrap),
        difference=_difference([m - b for m, b in pairs], bootstrap),
        wins=verdicts.count("win"),
        ties=verdicts.count("tie"),
        losses=verdicts.count("loss"),
        win_rate=statistics.win_rate(verdicts),
    )


def _score(
    model: Sequence[float], baseline: Sequence[float], bootstrap: Bootstrap
) -> Figure | None:
    value = statistics.score_percent(model, baseline)
    if value is None:
        return None
    interval = statistics.percent_interval(
        model, baseline, resamples=bootstrap.resamples, seed=bootstrap.seed
    )
    return Figure(value, len(model), interval)


def _difference(values: Sequence[float], bootstrap: Bootstrap) -> Figure | None:
    if not values:
        return None
    interval = statistics.mean_interval(values, resamples=bootstrap.resamples, seed=bootstrap.seed)
    return Figure(sum(values) / len(values), len(values), interval)


def by_category(items: Sequence[Item], bootstrap: Bootstrap) -> dict[str, Figures]:
    """The figures of each category, in the order in which the questions name them."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.category, []).append(item)
    return {name: figures(group, bootstrap) for name, group in groups.items()}


def both_orders(items: Sequence[Item]) -> BothOrders | None:
    """What the order of the answers changed; None where no question was judged in both."""
    pairs = [item.by_order for item in items if item.by_order]
    if not pairs:
        return None
    counts = Counter(pairs)
    agreed = [statistics.agreed_verdict(*pair) for pair in pairs]
    return BothOrders(
        n=len(pairs),
        conflicts=statistics.count_conflicts(pairs),
        agreed=(agreed.count("win"), agreed.count("tie"), agreed.count("loss")),
        adjusted_win_rate=statistics.win_rate(agreed),
        matrix=tuple(tuple(counts[first, second] for second in VERDICTS) for first in VERDICTS),
    )
