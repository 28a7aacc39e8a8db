"""The formulas of the report: pure functions of judgments and scores.

A judgment counts here only if its verdict could be read. Scores are the judge's own scale; every
percentage is 0 to 100 (or above, for a score relative to the baseline).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from openchat_cli.core.records import Judgment, Order, Verdict

ORDERS: tuple[Order, Order] = ("model_first", "baseline_first")
CONFIDENCE = 0.95

_POINTS: Mapping[Verdict, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
_EQUAL = 1e-9  # means of scores such as 8.5 differ by less than this only through rounding


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the figure can't be told from `value`."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class WinRate:
    """Percent, standard error in points (None for fewer than two questions), questions."""

    percent: float
    error: float | None
    n: int


# --- one question ---


def balanced_scores(
    judgments: Sequence[Judgment], orders: Sequence[Order] = ORDERS
) -> tuple[float, float] | None:
    """(model's score, baseline's score) of one question, or None where one of `orders` has none.

    Balanced position calibration: the mean over k samples in both orders, Wang et al. 2023, "Large
    Language Models are not Fair Evaluators", arXiv 2305.17926, §3.2. The mean is taken in each
    order first, so that a sample missing in one order does not tip the balance; with all samples
    there it is the mean over all 2k.
    """
    means = []
    for order in orders:
        pairs = [
            (j.score, j.baseline_score)
            for j in judgments
            if j.order == order and j.score is not None and j.baseline_score is not None
        ]
        if not pairs:
            return None
        means.append((fmean(model for model, _ in pairs), fmean(base for _, base in pairs)))
    return fmean(model for model, _ in means), fmean(base for _, base in means)


def verdict_of(difference: float) -> Verdict:
    """Win, tie or loss of a model whose score lies that far above the baseline's."""
    if abs(difference) < _EQUAL:
        return "tie"
    return "win" if difference > 0 else "loss"


def judgment_verdict(judgment: Judgment) -> Verdict | None:
    """A judgment's own verdict, else that of its scores; None where it has neither."""
    if judgment.verdict is not None:
        return judgment.verdict
    if judgment.score is None or judgment.baseline_score is None:
        return None
    return verdict_of(judgment.score - judgment.baseline_score)


def order_verdict(judgments: Sequence[Judgment], order: Order) -> Verdict | None:
    """The verdict of one order over its samples: by mean score, else by majority of verdicts."""
    here = [judgment for judgment in judgments if judgment.order == order]
    scores = balanced_scores(here, (order,))
    if scores is not None:
        return verdict_of(scores[0] - scores[1])
    verdicts = [verdict for j in here if (verdict := judgment_verdict(j)) is not None]
    if not verdicts:
        return None
    return verdict_of(fmean(_POINTS[verdict] for verdict in verdicts) - 0.5)


def agreed_verdict(first: Verdict, second: Verdict) -> Verdict:
    """MT-bench's pairwise rule: what both orders say, else a tie.

    Zheng et al. 2023, "Judging LLM-as-a-Judge", arXiv 2306.05685, §3.4 (the conservative way).
    """
    return first if first == second else "tie"


def diversity_entropy(verdicts: Sequence[Verdict]) -> float:
    """BPDE, the balanced position diversity entropy: -Σ p ln p over win, tie and loss.

    Wang et al. 2023, §3.3. 0 where all 2k samples agree, ln 3 at most; the questions where it is
    highest are those a human should look at first.
    """
    shares = [count / len(verdicts) for count in Counter(verdicts).values()]
    return sum(-share * math.log(share) for share in shares if share < 1)


# --- many questions ---


def score_percent(model: Sequence[float], baseline: Sequence[float]) -> float | None:
    """100 · Σ model / Σ baseline, the ratio of sums of the Vicuna benchmark; None for Σ = 0."""
    total = sum(baseline)
    return 100 * sum(model) / total if total > 0 else None


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    resamples: int,
    seed: int,
) -> Interval | None:
    """95 % percentile bootstrap interval of Σ numerators / Σ denominators, or None for n < 2.

    One entry a question: whole questions are drawn with replacement, so the samples and orders of
    a question stay together (a bootstrap clustered by question; Efron & Tibshirani 1993, §13.3).
    With denominators of 1 it is the interval of a mean. The same seed gives the same interval.
    """
    import numpy as np

    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    n = len(top)
    if n < 2 or resamples < 1:
        return None
    random = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    block = max(1, 2_000_000 // n)  # 16 MB of indices at a time
    for start in range(0, resamples, block):
        drawn = random.integers(0, n, (min(block, resamples - start), n))
        below = bottom[drawn].sum(axis=1)
        above = top[drawn].sum(axis=1)
        ratios[start : start + len(drawn)] = np.divide(
            above, below, out=np.full(len(drawn), np.nan), where=below > 0
        )
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Interval(float(low), float(high))


def percent_interval(
    model: Sequence[float], baseline: Sequence[float], *, resamples: int, seed: int
) -> Interval | None:
    """95 % interval of `score_percent`."""
    ratio = ratio_interval(model, baseline, resamples=resamples, seed=seed)
    return ratio and Interval(100 * ratio.low, 100 * ratio.high)


def mean_interval(values: Sequence[float], *, resamples: int, seed: int) -> Interval | None:
    """95 % interval of the mean of one value a question."""
    return ratio_interval(values, [1.0] * len(values), resamples=resamples, seed=seed)


def win_rate(verdicts: Sequence[Verdict]) -> WinRate | None:
    """Wins plus half the ties, in percent, with its standard error; None for no verdicts.

    AlpacaEval: 100 · mean(x) ± 100 · sd(x, ddof=1) / √n with x = 1, ½, 0 for win, tie, loss
    (Li et al. 2023, tatsu-lab/alpaca_eval, `pairwise_to_winrate`). On verdicts that both orders
    agree on it is MT-bench's adjusted win rate (W + T/2) / N.
    """
    points = [_POINTS[verdict] for verdict in verdicts]
    if not points:
        return None
    error = 100 * stdev(points) / math.sqrt(len(points)) if len(points) > 1 else None
    return WinRate(100 * fmean(points), error, len(points))


def count_conflicts(pairs: Sequence[tuple[Verdict, Verdict]]) -> int:
    """Questions whose verdict changes with the order; over all pairs it is the conflict rate.

    Wang et al. 2023, §2: (verdict with the model first, verdict with the baseline first), both
    seen from the model.
    """
    return sum(first != second for first, second in pairs)


def first_place_rate(judgments: Sequence[Judgment]) -> float | None:
    """P(the answer shown first wins), in percent of the judgments that name a winner.

    50 is a judge without position bias, provided both orders were asked equally often.
    """
    firsts = []
    for judgment in judgments:
        verdict = judgment_verdict(judgment)
        if verdict in ("win", "loss"):
            firsts.append((verdict == "win") == (judgment.order == "model_first"))
    return 100 * fmean(firsts) if firsts else None
