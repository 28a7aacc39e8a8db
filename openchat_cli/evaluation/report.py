"""`openchat eval report`: run folders in; a table, report.json and report.html out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openchat_cli
from openchat_cli.core import jsonl
from openchat_cli.core.errors import UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.evaluation.comparison import Comparison, compare
from openchat_cli.evaluation.figures import Bootstrap, Figure, Figures
from openchat_cli.evaluation.run_files import AnswerSet, Run, read_run, run_names
from openchat_cli.evaluation.settings import REFERENCE_JUDGE, ReportSettings
from openchat_cli.evaluation.statistics import WinRate

# Cells have several lines, so that the table fits a terminal of 80 columns.
# `n`: questions scored of those asked; `flips`: verdicts that change with the order of the
# answers; `EOT`: answers that the model ended itself.
COLUMNS = ("model", "score %", "win/tie/loss", "n", "flips", "EOT")
CATEGORY_COLUMNS = ("category", "score % [95 %]", "win/tie/loss", "n")


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What the answers of one model say by themselves, whoever judged them."""

    run: str
    model: str
    role: Literal["model", "baseline"]
    answers: int
    failed: int  # answers that hold an error instead
    ended: int | None  # answers whose every turn the model ended itself (EOT); None: not recorded
    with_reason: int  # answers that say how they ended: what `ended` is a part of
    mean_characters: float

    @property
    def ended_percent(self) -> float | None:
        """Share of answers that the model ended itself."""
        return None if self.ended is None else 100 * self.ended / self.with_reason


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows, but for the texts."""

    comparisons: tuple[Comparison, ...]
    models: tuple[ModelFigures, ...]
    bootstrap: Bootstrap
    notes: tuple[str, ...]

    def ended(self, comparison: Comparison) -> float | None:
        """Percent of the compared model's answers that it ended itself."""
        for figures in self.models:
            if (figures.run, figures.model) == (comparison.run, comparison.model):
                return figures.ended_percent
        return None


@dataclass(frozen=True)
class ReportSummary:
    """What `build_report` wrote, and the tables for the terminal."""

    outputs: tuple[Path, ...]
    report: Report
    rows: tuple[tuple[str, ...], ...]  # under COLUMNS, best score first
    category_rows: tuple[tuple[str, ...], ...]  # under CATEGORY_COLUMNS; of a single comparison
    counts: Mapping[str, int]

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that belong under the table: what a reader must know before quoting it."""
        return self.report.notes


def build_report(settings: ReportSettings, *, progress: Progress = SILENT) -> ReportSummary:
    """Read the runs, compute every figure, write `report.json` and `report.html`.

    Raises UsageError for existing outputs without `force`, InputError for a folder without
    judgments or a malformed row.
    """
    from openchat_cli.evaluation.report_page import report_page

    if not settings.runs:
        raise UsageError("no run to report", "openchat eval report OUT")
    out = settings.runs[0] if settings.out is None else settings.out
    outputs = (out / "report.json", out / "report.html")
    bootstrap = Bootstrap(settings.bootstrap, settings.seed)
    runs, comparisons = [], []
    with progress.task("reading runs", len(settings.runs), "runs") as task:
        for path, name in zip(settings.runs, run_names(settings.runs), strict=True):
            runs.append(read_run(path, name))
            comparisons += compare(runs[-1], bootstrap)
            task.advance()
    jsonl.claim(outputs, force=settings.force)
    report = _report(runs, comparisons, bootstrap)
    jsonl.write_json(outputs[0], to_json(report))
    with progress.task("writing the page", sum(len(c.items) for c in comparisons)) as task:
        jsonl.write_text(outputs[1], report_page(report, runs, task))
    return _summary(outputs, report)


def _report(runs: Sequence[Run], comparisons: Sequence[Comparison], bootstrap: Bootstrap) -> Report:
    best_first = sorted(comparisons, key=_standing, reverse=True)
    models = [figures for run in runs for figures in _model_figures(run)]
    return Report(tuple(best_first), tuple(models), bootstrap, tuple(_notes(best_first)))


def _standing(comparison: Comparison) -> float:
    overall = comparison.overall
    if overall.score:
        return overall.score.value
    return overall.win_rate.percent if overall.win_rate else 0.0


def _model_figures(run: Run) -> list[ModelFigures]:
    models = [_of_answers(run.name, answers, "model") for answers in run.answers.values()]
    return models + [_of_answers(run.name, one, "baseline") for one in run.baselines.values()]


def _of_answers(run: str, answers: AnswerSet, role: Literal["model", "baseline"]) -> ModelFigures:
    usable = [answer for answer in answers.answers if answer.error is None]
    told = [answer for answer in usable if answer.finish_reasons]
    ended = sum(all(reason == "stop" for reason in a.finish_reasons) for a in told)
    characters = sum(len(turn) for answer in usable for turn in answer.turns)
    return ModelFigures(
        run=run,
        model=answers.model,
        role=role,
        answers=len(answers.answers),
        failed=len(answers.answers) - len(usable),
        ended=ended if told else None,
        with_reason=len(told),
        mean_characters=characters / len(usable) if usable else 0.0,
    )


def _notes(comparisons: Sequence[Comparison]) -> list[str]:
    several = len(comparisons) > 1
    notes: dict[str, None] = {}
    for comparison in comparisons:
        for caution in comparison.cautions:
            general = comparison.judge == REFERENCE_JUDGE and caution.startswith("No LLM")
            notes[caution if general or not several else f"{comparison.label}: {caution}"] = None
    return list(notes)


# --- what goes out ---


def to_json(report: Report) -> dict[str, Any]:
    """The report as one JSON object: every figure, and the verdict of every question."""
    return {
        "kind": "report",
        "version": 1,
        "openchat": openchat_cli.__version__,
        "confidence": 0.95,
        "bootstrap": dataclasses.asdict(report.bootstrap),
        "notes": list(report.notes),
        "models": [
            {**dataclasses.asdict(one), "ended_percent": one.ended_percent} for one in report.models
        ],
        "comparisons": [_comparison_json(comparison) for comparison in report.comparisons],
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    plain = dataclasses.asdict(dataclasses.replace(comparison, items=()))
    del plain["items"]
    plain["overall"]["standing"] = comparison.overall.standing
    for name, of_it in comparison.categories.items():
        plain["categories"][name]["standing"] = of_it.standing
    items = [
        {
            "question_id": item.question_id,
            "category": item.category,
            "score": item.score,
            "baseline_score": item.baseline_score,
            "verdict": item.verdict,
            "by_order": item.by_order,
            "entropy": item.entropy,
            "excluded": item.excluded,
        }
        for item in comparison.items
    ]
    return {
        **plain,
        "prompts": comparison.prompts,
        "cautions": comparison.cautions,
        "questions": items,
    }


def _summary(outputs: tuple[Path, ...], report: Report) -> ReportSummary:
    comparisons = report.comparisons
    status = [count for c in comparisons for name, count in c.judgments.items() if name != "ok"]
    return ReportSummary(
        outputs=outputs,
        report=report,
        rows=tuple(_row(report, comparison) for comparison in comparisons),
        category_rows=_category_rows(comparisons),
        counts={
            "comparisons": len(comparisons),
            "questions": sum(len(c.items) for c in comparisons),
            "excluded": sum(sum(c.excluded.values()) for c in comparisons),
            "judgments": sum(sum(c.judgments.values()) for c in comparisons),
            "judgments_without_verdict": sum(status),
        },
    )


def _row(report: Report, comparison: Comparison) -> tuple[str, ...]:
    overall, both = comparison.overall, comparison.both_orders
    ended, asked = report.ended(comparison), len(comparison.items)
    judge = comparison.judge + (" (no LLM)" if comparison.judge == REFERENCE_JUDGE else "")
    return (
        f"{comparison.model}\nvs {comparison.baseline}\nby {judge}",
        score_text(overall.score).replace(" [", "\n["),
        f"{outcome_text(overall)}\n{win_rate_text(overall.win_rate)} %",
        str(asked) if overall.n == asked else f"{overall.n} of {asked}",
        f"{both.conflicts} of {both.n}" if both else "-",
        "-" if ended is None else f"{ended:.0f} %",
    )


def _category_rows(comparisons: Sequence[Comparison]) -> tuple[tuple[str, ...], ...]:
    if len(comparisons) != 1 or len(comparisons[0].categories) < 2:
        return ()
    return tuple(
        (category, score_text(of_it.score), outcome_text(of_it), str(of_it.n))
        for category, of_it in comparisons[0].categories.items()
    )


def score_text(score: Figure | None) -> str:
    """A score with its interval, such as `105.3 [101.9, 108.8]`."""
    if score is None:
        return "-"
    if score.interval is None:
        return f"{score.value:.1f}"
    return f"{score.value:.1f} [{score.interval.low:.1f}, {score.interval.high:.1f}]"


def outcome_text(figures: Figures) -> str:
    """Wins, ties and losses."""
    return f"{figures.wins}/{figures.ties}/{figures.losses}"


def win_rate_text(rate: WinRate | None) -> str:
    """A win rate with its standard error, such as `57.5 ± 5.1`."""
    if rate is None:
        return "-"
    return f"{rate.percent:.1f}" if rate.error is None else f"{rate.percent:.1f} ± {rate.error:.1f}"
