"""The formulas, on small cases worked by hand and on published figures."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core.records import Judgment, Verdict
from openchat_cli.evaluation import statistics
from openchat_cli.evaluation.statistics import Interval
from tests.conftest import SHARED
from tests.evaluation.report_rows import both, judgment

DATA = SHARED / "eval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no published data in {DATA}")


# --- by hand ---


def test_an_answers_score_is_the_mean_over_samples_and_orders() -> None:
    samples = [
        judgment("1", 8, 6),
        judgment("1", 6, 6, sample=1),
        judgment("1", 5, 9, order="baseline_first"),
        judgment("1", 6, 9, order="baseline_first", sample=1),
    ]
    assert statistics.balanced_scores(samples) == (6.25, 7.5)
    # A sample missing in one order must not give the other order more weight.
    assert statistics.balanced_scores(samples[1:]) == ((6 + 5.5) / 2, (6 + 9) / 2)
    assert statistics.balanced_scores(samples[:2]) is None
    assert statistics.balanced_scores(samples[:2], ("model_first",)) == (7, 6)


def test_verdicts() -> None:
    assert [statistics.verdict_of(x) for x in (0.1, 0.1 + 0.2 - 0.3, -2)] == ["win", "tie", "loss"]
    assert statistics.judgment_verdict(judgment("1", 8, 9)) == "loss"
    assert statistics.judgment_verdict(judgment("1", verdict="tie")) == "tie"
    assert statistics.judgment_verdict(judgment("1", status="failed")) is None


def test_the_verdict_of_an_order_is_that_of_the_mean_or_of_the_majority() -> None:
    pair = both("1", (8, 7), (6, 9))
    assert statistics.order_verdict(pair, "model_first") == "win"
    assert statistics.order_verdict(pair, "baseline_first") == "loss"
    said: list[Verdict] = ["win", "win", "loss"]
    votes = [judgment("1", verdict=verdict, sample=i) for i, verdict in enumerate(said)]
    assert statistics.order_verdict(votes, "model_first") == "win"
    assert statistics.order_verdict(votes, "baseline_first") is None


def test_a_win_by_mt_benchs_rule_needs_both_orders() -> None:
    assert statistics.agreed_verdict("win", "win") == "win"
    assert statistics.agreed_verdict("win", "tie") == "tie"
    assert statistics.agreed_verdict("win", "loss") == "tie"


def test_entropy_is_zero_in_agreement_and_ln_3_at_most() -> None:
    assert statistics.diversity_entropy(["win"] * 6) == 0
    assert statistics.diversity_entropy(["win", "tie", "loss"] * 2) == pytest.approx(math.log(3))
    assert statistics.diversity_entropy(["win", "loss"]) == pytest.approx(math.log(2))


def test_the_score_is_a_ratio_of_sums() -> None:
    assert statistics.score_percent([9, 3], [6, 6]) == 100
    assert statistics.score_percent([1], [0]) is None
    assert statistics.score_percent([], []) is None


def test_win_rate_and_its_standard_error() -> None:
    rate = statistics.win_rate(["win", "win", "tie", "loss"])
    assert rate is not None
    assert (rate.percent, rate.n) == (62.5, 4)
    # x = 1, 1, ½, 0: variance with ddof 1 is 0.6875 / 3
    assert rate.error == pytest.approx(100 * math.sqrt(0.6875 / 3 / 4))
    alone = statistics.win_rate(["win"])
    assert alone is not None and alone.error is None
    assert statistics.win_rate([]) is None


def test_conflicts_and_position() -> None:
    assert statistics.count_conflicts([("win", "win"), ("win", "loss"), ("tie", "win")]) == 2
    biased = both("1", (9, 7), (7, 9)) + both("2", (9, 7), (9, 7)) + both("3", (7, 7), (7, 7))
    assert statistics.first_place_rate(biased) == 75  # 3 of the 4 decided
    assert statistics.first_place_rate(both("3", (7, 7), (7, 7))) is None


# --- intervals ---


def test_an_interval_is_repeatable_and_holds_the_score() -> None:
    model, baseline = [8.3, 6.1, 9.2, 7.7, 5.4, 8.9], [7.0, 7, 7, 7, 7, 7]
    once = statistics.percent_interval(model, baseline, resamples=2000, seed=1)
    assert once == statistics.percent_interval(model, baseline, resamples=2000, seed=1)
    score = statistics.score_percent(model, baseline)
    assert once is not None and score is not None and once.low < score < once.high


def test_an_interval_of_a_mean_agrees_with_the_normal_one() -> None:
    values = [math.sin(i) for i in range(400)]
    interval = statistics.mean_interval(values, resamples=10_000, seed=3)
    mean = sum(values) / 400
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 399 / 400)
    assert interval is not None
    assert interval.low == pytest.approx(mean - 1.96 * error, abs=0.006)
    assert interval.high == pytest.approx(mean + 1.96 * error, abs=0.006)


def test_too_little_for_an_interval() -> None:
    assert statistics.mean_interval([1.0], resamples=100, seed=1) is None
    assert statistics.percent_interval([1.0, 2], [0.0, 0], resamples=100, seed=1) is None
    assert Interval(99, 101).holds(100) and not Interval(101, 102).holds(100)


# --- published figures ---


@pytest.mark.parametrize(
    ("wins", "losses", "draws", "percent", "error"),
    [
        (650, 153, 2, 80.8696, 1.3844),
        (639, 164, 1, 79.5398, 1.4222),
        (632, 170, 3, 78.6957, 1.4400),
    ],
)
def test_alpaca_eval_rows_from_their_counts(
    wins: int, losses: int, draws: int, percent: float, error: float
) -> None:
    verdicts: list[Verdict] = [*["win"] * wins, *["loss"] * losses, *["tie"] * draws]  # type: ignore[list-item]  # literals in a product
    rate = statistics.win_rate(verdicts)
    assert rate is not None
    assert (round(rate.percent, 4), round(rate.error or 0, 4)) == (percent, error)


@needs_data
@pytest.mark.parametrize(
    ("name", "percent", "error"),
    [("vicuna-13b", 70.4348, 1.6070), ("alpaca-7b", 26.4596, 1.5357)],
)
def test_alpaca_eval_rows_from_annotations(name: str, percent: float, error: float) -> None:
    rows = json.loads((DATA / f"alpaca_eval/{name}/annotations.json").read_text())
    meaning: dict[float, Verdict] = {1: "loss", 2: "win", 0: "tie", 1.5: "tie"}
    rate = statistics.win_rate(
        [meaning[row["preference"]] for row in rows if row["preference"] is not None]
    )
    assert rate is not None
    assert (round(rate.percent, 4), round(rate.error or 0, 4)) == (percent, error)


def rows(name: str) -> list[dict[str, Any]]:
    with (DATA / name).open() as lines:
        return [json.loads(line) for line in lines]


def reviews(*names: str) -> dict[str, list[Judgment]]:
    """FastChat's reviews against ChatGPT by question, oriented by answer id."""
    chatgpt = {row["answer_id"] for row in rows("vicuna/answer/answer_gpt35.jsonl")}
    found: dict[str, list[Judgment]] = defaultdict(list)
    for row in (row for name in names for row in rows(name)):
        scores = row["score"] if isinstance(row["score"], list) else [0, 0]
        if min(scores) < 1:
            continue  # their parser's way to say that it could not read the verdict
        first = row["answer2_id"] in chatgpt
        model, baseline = scores if first else reversed(scores)
        order = "model_first" if first else "baseline_first"
        key = str(row["question_id"])
        found[key].append(judgment(key, model, baseline, order=order))  # type: ignore[arg-type]  # a literal of two
    return found


def percent(scores: Sequence[tuple[float, float] | None]) -> float:
    kept = [score for score in scores if score]
    value = statistics.score_percent([m for m, _ in kept], [b for _, b in kept])
    assert value is not None
    return value


@needs_data
def test_vicuna_against_chatgpt() -> None:
    by_question = reviews("vicuna/review/review_gpt35_vicuna-13b.jsonl")
    scores = [statistics.balanced_scores(js, ("baseline_first",)) for js in by_question.values()]
    assert sum(score[0] for score in scores if score) == 638.0
    assert sum(score[1] for score in scores if score) == 693.0
    assert round(percent(scores), 2) == 92.06


TOPP = "generations-topp0.9-temp0.7"


@needs_data
@pytest.mark.parametrize(
    ("model", "baseline_first", "model_first", "balanced"),
    [
        ("vicuna-13b", 91.2, 98.7, 94.9),
        (f"13b-guanaco-vicuna-{TOPP}", 87.3, 93.4, 90.4),
        ("gpt4", 110.1, 119.4, None),
    ],
)
def test_both_orders(
    model: str, baseline_first: float, model_first: float, balanced: float | None
) -> None:
    stem = "qlora/reviews"
    by_question = reviews(
        f"{stem}/gpt-3.5-vs-{model}-gpt4-reviewer.jsonl",
        f"{stem}/{model}-vs-gpt-3.5-gpt4-reviewer.jsonl",
    )
    groups = by_question.values()
    for order, expected in (("baseline_first", baseline_first), ("model_first", model_first)):
        scores = [statistics.balanced_scores(js, (order,)) for js in groups]  # type: ignore[arg-type]  # a literal of two
        assert round(percent(scores), 1) == expected
    if balanced is not None:
        assert round(percent([statistics.balanced_scores(js) for js in groups]), 1) == balanced


@needs_data
def test_fair_eval_agreement_and_conflicts() -> None:
    """80 human labels: single orders agree on 55 % and 50 %, balanced 56.25 %; 42 conflicts."""
    stem = "qlora/reviews"
    by_question = reviews(
        f"{stem}/gpt-3.5-vs-vicuna-13b-gpt4-reviewer.jsonl",
        f"{stem}/vicuna-13b-vs-gpt-3.5-gpt4-reviewer.jsonl",
    )
    words: dict[str, Verdict] = {"CHATGPT": "loss", "TIE": "tie", "VICUNA13B": "win"}
    label_file = Path(DATA / "faireval/review_gpt35_vicuna-13b_human.txt")
    human = [words[word] for word in label_file.read_text().split()]
    questions = [by_question[str(number)] for number in range(1, 81)]

    def agreement(verdicts: Sequence[Verdict | None]) -> float:
        return 100 * sum(a == b for a, b in zip(verdicts, human, strict=True)) / 80

    first = [statistics.order_verdict(js, "baseline_first") for js in questions]
    second = [statistics.order_verdict(js, "model_first") for js in questions]
    scores = [statistics.balanced_scores(js) for js in questions]
    balanced = [statistics.verdict_of(s[0] - s[1]) for s in scores if s]
    assert (agreement(first), agreement(second), agreement(balanced)) == (55.0, 50.0, 56.25)
    pairs = [(a, b) for a, b in zip(second, first, strict=True) if a and b]
    assert statistics.count_conflicts(pairs) == 42
