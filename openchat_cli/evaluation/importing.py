"""`openchat eval import`: others' reviews as our judgments.

FastChat's and QLoRA's reviews name the two answers by id, which tells whose is whose. The original
OpenChat's results hold both orders in one row, already oriented.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl, original, records
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Answer, Judgment, Question
from openchat_cli.evaluation import benchmarks, run_layout
from openchat_cli.evaluation.settings import ImportSettings
from openchat_cli.evaluation.sides import Sides, read_sides
from openchat_cli.evaluation.statistics import verdict_of
from openchat_cli.evaluation.verdict import HIGHEST, LOWEST, read_scores

_SHAPES = "what is read: reviews of FastChat and QLoRA, results of the original OpenChat"


@dataclass(frozen=True)
class ImportSummary:
    """What came in.

    Stored scores are taken as they are, also the `mended` ones, which differ from what the text
    says. `lost` reviews have none, though ours can be read: `reread` recovers them.
    """

    outputs: tuple[Path, ...]
    models: tuple[str, ...]
    judgments: int
    unreadable: int
    lost: int
    mended: int
    skipped: int


@dataclass
class _Found:
    """What the review files hold, as it is read."""

    judgments: list[Judgment] = field(default_factory=list)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)  # of original results
    questions: dict[str, Question] = field(default_factory=dict)  # likewise
    skipped: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)  # how they were had


def import_reviews(settings: ImportSettings, *, progress: Progress = SILENT) -> ImportSummary:
    """Write judgments, and the answers they are about, as a run's folder.

    Raises InputError for files of another shape and where no review is about the baseline.
    """
    questions = benchmarks.read_questions(settings.questions) if settings.questions else None
    sides = read_sides(settings.answers, settings.baseline, questions)
    found = _Found()
    for path in settings.reviews:
        _read(path, settings, sides, found)
    if not found.judgments:
        hint = "--answers must hold the answers that the reviews are about"
        raise InputError(f"no review is about an answer of '{settings.baseline}'", hint)
    if found.scores["lost"]:
        count = found.scores["lost"]
        progress.note(f"{count} reviews have no stored score but a readable text: see --reread")
    for reason, count in found.skipped.items():
        progress.warn(f"left out {count} reviews: {reason}")
    judgments = _numbered(found.judgments)
    outputs = _write(settings, sides, found, judgments, questions)
    return ImportSummary(
        outputs=tuple(outputs),
        models=tuple(sorted({judgment.model for judgment in judgments})),
        judgments=len(judgments),
        unreadable=sum(judgment.status == "unreadable" for judgment in judgments),
        lost=found.scores["lost"],
        mended=found.scores["mended"],
        skipped=found.skipped.total(),
    )


def _read(path: Path, settings: ImportSettings, sides: Sides, found: _Found) -> None:
    for number, row in jsonl.read_rows(path):
        where = f"{path}:{number}"
        if "answer1_id" in row and "answer2_id" in row:
            _add_review(where, row, settings, sides, found)
        elif original.is_result(row):
            _add_result(where, row, settings, found)
        elif "answer_model" in row:
            found.skipped["the original made none (its call failed)"] += 1
        else:
            raise InputError(f"{where}: not a review", _SHAPES)


def _add_review(
    where: str, row: Mapping[str, Any], settings: ImportSettings, sides: Sides, found: _Found
) -> None:
    """A review of FastChat's shape: question_id, answer1_id, answer2_id, text, score."""
    text, question_id = row.get("text"), row.get("question_id")
    if not isinstance(text, str) or not isinstance(question_id, str | int):
        raise InputError(f"{where}: a review needs 'question_id' and 'text'", _SHAPES)
    first, second = str(row["answer1_id"]), str(row["answer2_id"])
    placed = sides.order(first, second)
    if isinstance(placed, str):
        found.skipped[placed] += 1
        return
    order, model = placed
    mine, other = (first, second) if order == "model_first" else (second, first)
    judgment = Judgment(
        question_id=str(question_id),
        protocol="pairwise-scores",
        order=order,
        sample=0,
        model=model,
        baseline=settings.baseline,
        answer_id=mine,
        baseline_answer_id=other,
        score=None,
        baseline_score=None,
        verdict=None,
        status="unreadable",
        text=text,
        judge=settings.judge,
        prompt_hash="",
        usage=None,
        created="",
    )
    found.judgments.append(
        _scored(judgment, _scores(row.get("score"), text, settings.reread, found.scores))
    )


def _add_result(where: str, row: dict[str, Any], settings: ImportSettings, found: _Found) -> None:
    """A result of the original OpenChat: the question, the model's answer and two reviews."""
    answer = records.parse(where, row, Answer)[0]
    question = records.parse(where, row, Question)[0]
    found.questions[question.question_id] = question
    for judgment in records.parse(where, row, Judgment):
        named = dataclasses.replace(judgment, baseline=settings.baseline)
        if named.status == "unreadable":
            named = _scored(named, _scores((), named.text, settings.reread, found.scores))
        found.judgments.append(named)
        key = (judgment.model, answer.question_id)
        found.answers[key] = dataclasses.replace(answer, model=judgment.model)


def _scores(
    stored: Any, text: str, reread: bool, tally: Counter[str]
) -> tuple[float, float] | None:
    """The stored scores; where none were ever stored, or to reread, what the text says."""
    found = read_scores(text)
    read = (found.first, found.second) if found else None
    match stored:
        case [int() | float() as first, int() | float() as second] if _plausible(first, second):
            tally["mended"] += read != (first, second)
            return float(first), float(second)
    if stored is None or reread or read is None:
        return read
    tally["lost"] += 1
    return None


def _plausible(first: float, second: float) -> bool:
    """Not FastChat's -1, -1 nor the original's 0, 0 for a review that could not be read."""
    return all(LOWEST <= score <= HIGHEST for score in (first, second)) and (first or second) != 0


def _scored(judgment: Judgment, shown: tuple[float, float] | None) -> Judgment:
    """The judgment with scores that are in the order in which the answers were shown."""
    if shown is None:
        return judgment
    own, other = shown if judgment.order == "model_first" else (shown[1], shown[0])
    verdict = verdict_of(own - other)
    return dataclasses.replace(
        judgment, score=own, baseline_score=other, verdict=verdict, status="ok"
    )


def _numbered(judgments: Sequence[Judgment]) -> list[Judgment]:
    """Further reviews of the same pair in the same order are further samples."""
    seen: Counter[tuple[str, str, str]] = Counter()
    numbered = []
    for judgment in judgments:
        key = (judgment.model, judgment.question_id, judgment.order)
        numbered.append(dataclasses.replace(judgment, sample=seen[key]))
        seen[key] += 1
    return numbered


# --- the run's folder ---


def _write(
    settings: ImportSettings,
    sides: Sides,
    found: _Found,
    judgments: Sequence[Judgment],
    questions: list[Question] | None,
) -> list[Path]:
    files = dict(_files(settings, sides, found, judgments))
    jsonl.claim((p for p, rows in files.items() if not _same(p, rows)), force=settings.force)
    questions = questions or list(found.questions.values())
    if questions:
        benchmarks.keep_with_run(settings.out, questions, force=settings.force)
    for path, rows in files.items():
        records.write(path, rows)
    return list(files)


def _same(path: Path, rows: Sequence[Judgment] | Sequence[Answer]) -> bool:
    """Whether a file holds these very rows already, as a baseline shared by several imports."""
    wanted = "".join(jsonl.dumps(row.to_row()) + "\n" for row in rows)
    return path.is_file() and path.read_bytes() == wanted.encode()


def _files(
    settings: ImportSettings, sides: Sides, found: _Found, judgments: Sequence[Judgment]
) -> Iterator[tuple[Path, Sequence[Judgment] | Sequence[Answer]]]:
    """Every file to be written with its rows."""
    out, baseline = settings.out, settings.baseline
    if sides.baseline:
        yield run_layout.baseline_file(out, baseline), sides.baseline
    for model in sorted({judgment.model for judgment in judgments}):
        of_it = [judgment for judgment in judgments if judgment.model == model]
        own = [answer for (name, _), answer in found.answers.items() if name == model]
        answers = own or _with_ids(sides.models.get(model, ()), of_it)
        if answers:
            yield run_layout.answers_file(out, model), answers
        yield run_layout.judgments_file(out, model, baseline), of_it


def _with_ids(answers: Sequence[Answer], judgments: Sequence[Judgment]) -> list[Answer]:
    """The answers with the ids that the reviews know them by, where they have none themselves."""
    ids = {judgment.question_id: judgment.answer_id for judgment in judgments}
    missing = [a for a in answers if not a.answer_id and a.question_id not in ids]
    if len(missing) == len(answers) and answers:
        raise UsageError(f"no review is about the answers of {answers[0].model}")
    return [
        dataclasses.replace(a, answer_id=a.answer_id or ids.get(a.question_id, a.question_id))
        for a in answers
    ]
