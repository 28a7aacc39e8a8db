"""The report as one HTML page: the figures first, then every question with what was said."""

from __future__ import annotations

from collections.abc import Sequence

from openchat_cli.core.progress import Task
from openchat_cli.evaluation.comparison import Comparison
from openchat_cli.evaluation.figures import VERDICTS, Figure
from openchat_cli.evaluation.report import (
    ModelFigures,
    Report,
    outcome_text,
    score_text,
    win_rate_text,
)
from openchat_cli.evaluation.report_questions import question_list
from openchat_cli.evaluation.run_files import Run
from openchat_cli.evaluation.settings import REFERENCE_JUDGE
from openchat_cli.web import charts
from openchat_cli.web.html import Html, join, tag
from openchat_cli.web.shell import asset, page
from openchat_cli.web.tables import number, table, two_lines


def report_page(report: Report, runs: Sequence[Run], task: Task) -> Html:
    """The whole document; `task` advances by one for each question of each comparison."""
    title = "OpenChat evaluation report"
    body = join(
        [
            tag("a", "Skip to the questions", href="#questions", class_="skip"),
            tag("header", _head(title, report)),
            tag(
                "main",
                _leaderboard(report),
                _charts(report.comparisons),
                _categories(report.comparisons),
                _orders(report.comparisons),
                _models(report.models),
                _method(report),
                question_list(report.comparisons, runs, task),
            ),
        ]
    )
    package = "openchat_cli.evaluation"
    return page(title, body, css=asset(package, "report.css"), script=asset(package, "report.js"))


# --- the figures ---


def _head(title: str, report: Report) -> Html:
    theme = tag("button", "Light / dark", type="button", id="theme", hidden=True, class_="noprint")
    lines = [tag("p", text, class_="lead") for text in map(_headline, report.comparisons[:3])]
    banner = Html("")
    if any(comparison.judge == REFERENCE_JUDGE for comparison in report.comparisons):
        banner = tag(
            "div",
            tag("strong", "No LLM judged these answers. "),
            "The built-in reference judge compares each answer with a reference answer by the "
            "character n-grams they share (chrF, scaled to 1-10). It sees wording, not quality.",
            class_="banner",
            role="note",
        )
    return join([tag("div", tag("h1", title), theme, class_="title"), banner, *lines])


def _headline(comparison: Comparison) -> Html:
    overall = comparison.overall
    who = [tag("strong", comparison.model), " against ", tag("strong", comparison.baseline)]
    if overall.score is None:
        rate = win_rate_text(overall.win_rate)
        return join([*who, f": win rate {rate} %, n = {overall.n}."])
    standing = {
        "ahead": "ahead: the whole interval lies above 100 %",
        "behind": "behind: the whole interval lies below 100 %",
        "not distinguishable": f"not distinguishable from 100 % at n = {overall.n}",
        None: "too few questions for an interval",
    }[overall.standing]
    return join(
        [*who, ": ", tag("b", f"{overall.score.value:.1f} %"), f" of its score, {standing}."]
    )


def _leaderboard(report: Report) -> Html:
    runs = len({comparison.run for comparison in report.comparisons}) > 1
    heads = [
        *(["Run"] if runs else []),
        "Model and baseline",
        "Judge",
        "Score, % of baseline",
        "Difference, points",
        "Win / tie / loss",
        "Win rate ± s.e., %",
        "Questions",
        "Verdict flips with order",
        "Ended by EOT",
    ]
    rows = [_leaderboard_row(report, comparison, runs) for comparison in report.comparisons]
    leaders = table("Every model against its baseline, best score first", heads, rows)
    notes = [tag("li", note) for note in report.notes]
    below = tag("ul", *notes, class_="notes") if notes else Html("")
    return tag("section", tag("h2", "Leaderboard"), leaders, below)


def _leaderboard_row(report: Report, comparison: Comparison, runs: bool) -> list[str]:
    overall, both = comparison.overall, comparison.both_orders
    first, last = (date[:10] for date in comparison.judged)
    when = first if first == last else f"{first} to {last}"
    detail = ", ".join(part for part in (comparison.prompts, when) if part)
    first = ""
    if comparison.first_place is not None:
        first = f"first wins {comparison.first_place:.0f} %"
    ended, excluded = report.ended(comparison), sum(comparison.excluded.values())
    return [
        *([comparison.run] if runs else []),
        two_lines(tag("strong", comparison.model), f"vs {comparison.baseline}"),
        two_lines(comparison.judge, detail),
        number(score_text(overall.score), overall.standing or ""),
        _signed(overall.difference),
        outcome_text(overall).replace("/", " / "),
        win_rate_text(overall.win_rate),
        number(str(overall.n), f"{excluded} excluded" if excluded else ""),
        number(f"{both.conflicts} of {both.n}", first) if both else "–",
        "–" if ended is None else f"{ended:.0f} %",
    ]


def _signed(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    if figure.interval is None:
        return f"{figure.value:+.2f}"
    return f"{figure.value:+.2f} [{figure.interval.low:+.2f}, {figure.interval.high:+.2f}]"


def _charts(comparisons: Sequence[Comparison]) -> Html:
    scored = [(c, c.overall.score) for c in comparisons if c.overall.score]
    parts: list[Html] = []
    if scored:
        bars = [_bar(c.label, score, c.overall.n) for c, score in scored]
        parts.append(
            charts.interval_bars(
                bars,
                title="Score, percent of the baseline",
                description="One bar a comparison; the whisker is the 95 % interval.",
                unit=" %",
                reference=(100.0, "baseline = 100 %"),
            )
        )
    stacks = [
        charts.Stack(c.label, (c.overall.wins, c.overall.ties, c.overall.losses))
        for c in comparisons
    ]
    parts.append(
        charts.stacked(
            stacks,
            title="Questions won, tied and lost",
            description="One bar a comparison, split by the verdicts of its scored questions.",
        )
    )
    return tag("section", tag("h2", "Scores and verdicts"), *parts)


def _bar(label: str, score: Figure, n: int) -> charts.Bar:
    interval = score.interval
    low, high = (interval.low, interval.high) if interval else (None, None)
    return charts.Bar(label, score.value, low, high, note=f"n = {n}")


def _categories(comparisons: Sequence[Comparison]) -> Html:
    names = list(dict.fromkeys(item.category for c in comparisons for item in c.items))
    if len(names) < 2:
        return Html("")
    parts: list[Html] = []
    if len(comparisons) == 1:
        parts.append(_category_bars(comparisons[0]))
    if len(comparisons) > 1:
        parts.append(_category_map(comparisons, names))
    rows = [
        [
            c.label,
            name,
            score_text(of_it.score),
            _signed(of_it.difference),
            outcome_text(of_it),
            win_rate_text(of_it.win_rate),
            str(of_it.n),
        ]
        for c in comparisons
        for name, of_it in c.categories.items()
    ]
    heads = ["Comparison", "Category", "Score, % [95 %]", "Difference [95 %]", "Win/tie/loss"]
    every = table("Every category", [*heads, "Win rate ± s.e., %", "n"], rows)
    more = tag("details", tag("summary", "The same as a table"), every)
    return tag("section", tag("h2", "By category"), *parts, more)


def _category_bars(comparison: Comparison) -> Html:
    bars = [
        _bar(name, of_it.score, of_it.n)
        for name, of_it in comparison.categories.items()
        if of_it.score
    ]
    if not bars:
        return Html("")
    return charts.interval_bars(
        bars,
        title=f"Score by category, {comparison.label}",
        description="Percent of the baseline, with the 95 % interval.",
        unit=" %",
        reference=(100.0, "baseline = 100 %"),
    )


def _category_map(comparisons: Sequence[Comparison], names: Sequence[str]) -> Html:
    def cell(comparison: Comparison, name: str) -> float | None:
        of_it = comparison.categories.get(name)
        return of_it.score.value if of_it and of_it.score else None

    return charts.heat_map(
        [comparison.model for comparison in comparisons],
        names,
        [[cell(comparison, name) for name in names] for comparison in comparisons],
        title="Score by category, percent of the baseline",
        description="Arrows up: above the baseline; arrows down: below it.",
        centre=100.0,
        span=40.0,
    )


def _orders(comparisons: Sequence[Comparison]) -> Html:
    parts = [_order_matrix(comparison) for comparison in comparisons if comparison.both_orders]
    if not parts:
        return Html("")
    lead = tag(
        "p",
        "Each question was judged twice, with the answers swapped. On the diagonal both orders "
        "agree; elsewhere the verdict flips with the order.",
    )
    return tag("section", tag("h2", "Position bias"), lead, tag("div", *parts, class_="cards"))


def _order_matrix(comparison: Comparison) -> Html:
    both = comparison.both_orders
    assert both is not None  # asked for where it is there only
    rows = [
        [verdict, *(number(str(both.matrix[i][j]), strong=i == j) for j in range(3))]
        for i, verdict in enumerate(VERDICTS)
    ]
    heads = ["model first ↓ · baseline first →", *VERDICTS]
    matrix = table(comparison.label, heads, rows)
    wins, ties, losses = both.agreed
    first = "–" if comparison.first_place is None else f"{comparison.first_place:.0f} %"
    facts = (
        f"Flips on {both.conflicts} of {both.n} questions "
        f"({100 * both.conflicts / both.n:.0f} %). The answer shown first wins {first} of the "
        f"decided judgments (50 % is fair). Counting a win only where both orders agree: "
        f"{wins} / {ties} / {losses}, adjusted win rate {win_rate_text(both.adjusted_win_rate)} %."
    )
    return tag("div", matrix, tag("p", facts, class_="muted small"), class_="card")


def _models(models: Sequence[ModelFigures]) -> Html:
    if not models:
        return Html("")
    rows = [
        [
            one.model,
            one.role,
            one.run,
            str(one.answers),
            str(one.failed),
            "–" if one.ended is None else f"{one.ended} of {one.with_reason}",
            "–" if one.ended_percent is None else f"{one.ended_percent:.0f} %",
            f"{one.mean_characters:,.0f}",
        ]
        for one in models
    ]
    heads = ["Model", "Role", "Run", "Answers", "Failed", "Ended by EOT", "Share", "Mean length"]
    answers = table("The answers; lengths in characters", heads, rows)
    return tag("section", tag("h2", "Answers"), answers)


def _method(report: Report) -> Html:
    texts = [
        "Score: 100 · Σ model / Σ baseline over the scored questions (a ratio of sums). The score "
        "of an answer is the mean over all samples of the judge and both orders, where there are "
        "two.",
        f"Intervals: 95 %, percentile bootstrap over whole questions, "
        f"{report.bootstrap.resamples:,} resamples, seed {report.bootstrap.seed}. With 80 "
        "questions and an LLM judge the interval is about ±3.4 points: smaller differences say "
        "nothing.",
        "Win rate: wins plus half the ties; standard error = 100 · sd / √n, as in AlpacaEval.",
        "A question without a readable verdict in every order is excluded and counted, never "
        "scored 0.",
    ]
    items = [tag("li", text) for text in texts]
    return tag("details", tag("summary", "How these figures are made"), tag("ul", *items))
