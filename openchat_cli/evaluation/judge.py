"""`openchat eval judge`: every answer file of a run against one baseline.

The judge explains before it scores (evidence calibration), k times, with the two answers in both
orders (balanced position calibration); Wang et al. 2023, arXiv 2305.17926.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core import jsonl, loop, records
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Judgment, Question
from openchat_cli.evaluation import benchmarks, prompts, reference_judge, run_layout
from openchat_cli.evaluation.judgments import Case
from openchat_cli.evaluation.llm_judge import LlmJudge
from openchat_cli.evaluation.pairs import Match, matches
from openchat_cli.evaluation.settings import REFERENCE_JUDGE, JudgeSettings
from openchat_cli.evaluation.statistics import ORDERS

_REVIEW_TOKENS = 300  # what a review takes in the mean, for the cost before the run
_CHOICES = "--judge MODEL (with --judge-url URL for any endpoint), or --judge reference (no LLM)"


@dataclass(frozen=True)
class JudgeSummary:
    """What was written. `recorded` replies needed no call; `cost` (US dollars, of every call that
    the journal holds) is None where the judge's price is not known.
    """

    outputs: tuple[Path, ...]
    judge: str
    judgments: int
    unreadable: int
    failed: int
    calls: int = 0
    recorded: int = 0
    usage: Mapping[str, int] = dataclasses.field(default_factory=dict)
    cost: float | None = None

    @property
    def ok(self) -> int:
        """Judgments with a verdict."""
        return self.judgments - self.unreadable - self.failed


@dataclass(frozen=True)
class JudgePlan:
    """What judging would take: calls still to make, tokens, US dollars where the price is known."""

    judge: str
    models: tuple[str, ...]
    baseline: str
    judgments: int
    calls: int
    prompt_tokens: int
    completion_tokens: int  # expected: judges write about this much
    counted_by: str
    cost: float | None  # expected
    most: float | None  # if every reply took all of max_tokens


def judge(settings: JudgeSettings, *, progress: Progress = SILENT) -> JudgeSummary:
    """Judge, and write OUT/judgments/NAME_vs_BASELINE.jsonl for each model.

    A verdict that can't be read gets one repair call, then counts as "unreadable"; a call that
    failed leaves a "failed" row, and a rerun makes only those calls again. Raises UsageError for
    missing choices, InputError for missing answers, EndpointError where no call can succeed.
    """
    found = _prepared(settings, progress)
    if settings.judge != REFERENCE_JUDGE:
        settings.endpoint.require_key("--judge reference judges without an LLM")
    for match in found:
        _claim(run_layout.judgments_file(settings.out, match.model, match.baseline), settings)
    if settings.judge == REFERENCE_JUDGE:
        return _by_reference(settings, found, progress)
    return _by_llm(settings, found, progress)


def plan(settings: JudgeSettings, *, progress: Progress = SILENT) -> JudgePlan:
    """What `judge` would do, without a call and without a trace."""
    found = _prepared(settings, progress)
    cases = list(_cases(found, settings))
    calls, tokens, counted_by, price = 0, 0.0, "", None
    if settings.judge != REFERENCE_JUDGE:
        path = _journal_path(settings)
        with Journal(path) if path.is_file() else contextlib.nullcontext() as journal:
            judge_ = LlmJudge(settings, journal)
            chats = [judge_.chat(case) for case in cases if case.pair.fault is None]
            open_ = [chat for chat in chats if judge_.client.recorded(chat) is None]
            calls, tokens = len(open_), sum(map(judge_.purse.prompt_tokens, open_))
            counted_by, price = judge_.purse.counted_by, judge_.purse.price
    expected = calls * min(settings.max_tokens, _REVIEW_TOKENS)
    return JudgePlan(
        judge=settings.judge or "",
        models=tuple(match.model for match in found),
        baseline=settings.baseline,
        judgments=len(cases),
        calls=calls,
        prompt_tokens=round(tokens),
        completion_tokens=expected,
        counted_by=counted_by,
        cost=price.of(tokens, expected) if price else None,
        most=price.of(tokens, calls * settings.max_tokens) if price else None,
    )


# --- before the first call ---


def _prepared(settings: JudgeSettings, progress: Progress) -> list[Match]:
    """Who meets whom, once everything that can be wrong beforehand has been looked at."""
    if settings.judge is None:
        raise UsageError("who is to judge?", _CHOICES)
    questions = _questions(settings)
    found = matches(settings.out, settings.baseline, questions, progress)
    if settings.judge == REFERENCE_JUDGE:
        where = settings.questions or settings.out / "questions.jsonl"
        reference_judge.check_references(questions, str(where))
        return found
    for match in found:
        if match.model == settings.judge and not settings.allow_self_judge:
            hint = "--allow-self-judge, and the report will say so"
            raise UsageError(f"{settings.judge} would judge its own answers", hint)
    return found


def _questions(settings: JudgeSettings) -> list[Question]:
    path = settings.questions or settings.out / "questions.jsonl"
    if settings.questions is None and settings.out.is_dir() and not path.is_file():
        hint = "eval answer leaves the questions there; or give --questions FILE"
        raise InputError(f"{path}: no such file", hint)
    return benchmarks.read_questions(path) if settings.out.is_dir() else []


def _journal_path(settings: JudgeSettings) -> Path:
    return run_layout.journal_file(settings.out, "judge", settings.judge or "")


def _claim(path: Path, settings: JudgeSettings) -> None:
    """Leave a file alone that another judge wrote; the same judge's is written anew from the
    journal.
    """
    if not path.is_file() or settings.force:
        return
    formats: tuple[prompts.Format, ...] = ("json", "text")
    own = {"", *map(prompts.prompt_hash, formats if settings.format == "json" else ("text",))}
    first = next(iter(records.read(path, Judgment)), None)
    if first and (first.judge != settings.judge or first.prompt_hash not in own):
        hint = "add --force to replace it, or judge in another OUT folder"
        raise UsageError(f"{path}: already there, judged by {first.judge}", hint)


def _cases(found: Sequence[Match], settings: JudgeSettings) -> Iterator[Case]:
    """Every verdict to be had, in the order of the rows to be written."""
    pairs = (pair for match in found for pair in match.pairs)
    if settings.judge == REFERENCE_JUDGE:
        yield from map(Case, pairs)
        return
    for pair in pairs:
        for order in ORDERS:
            for sample in range(settings.samples):
                yield Case(pair, order, sample)


# --- judging ---


def _by_reference(
    settings: JudgeSettings, found: Sequence[Match], progress: Progress
) -> JudgeSummary:
    made: list[Judgment] = []
    cases = list(_cases(found, settings))
    with progress.task("comparing with the references", len(cases), "pairs") as task:
        for judgment in reference_judge.judge_cases(cases):
            made.append(judgment)
            task.advance()
    return _written(settings, found, made)


def _by_llm(settings: JudgeSettings, found: Sequence[Match], progress: Progress) -> JudgeSummary:
    with Journal(_journal_path(settings)) as journal:
        judge_ = LlmJudge(settings, journal, progress)
        made = loop.run(_all_verdicts(judge_, list(_cases(found, settings)), progress))
    summary = _written(settings, found, made)
    usage: Counter[str] = Counter()
    for judgment in made:
        usage.update(judgment.usage or {})
    return dataclasses.replace(
        summary,
        calls=judge_.calls,
        recorded=judge_.recorded,
        usage=dict(usage),
        cost=judge_.purse.spent if judge_.purse.price else None,
    )


async def _all_verdicts(
    judge_: LlmJudge, cases: Sequence[Case], progress: Progress
) -> list[Judgment]:
    made: dict[int, Judgment] = {}
    with progress.task(f"judging with {judge_.name}", len(cases), "verdicts") as task:

        async def one(item: tuple[int, Case]) -> None:
            made[item[0]] = await judge_.judge(item[1])
            task.advance()

        async with judge_.client:
            await loop.spread(enumerate(cases), one, judge_.client.endpoint.concurrency)
    return [made[index] for index in range(len(cases))]


def _written(
    settings: JudgeSettings, found: Sequence[Match], made: Sequence[Judgment]
) -> JudgeSummary:
    outputs = []
    for match in found:
        path = run_layout.judgments_file(settings.out, match.model, match.baseline)
        jsonl.make_folder(path.parent)
        records.write(path, [row for row in made if row.model == match.model])
        outputs.append(path)
    status = Counter(judgment.status for judgment in made)
    return JudgeSummary(
        outputs=tuple(outputs),
        judge=settings.judge or "",
        judgments=len(made),
        unreadable=status["unreadable"],
        failed=status["failed"],
    )
