"""A run folder (see run_layout.py) in memory, as the report needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core import records
from openchat_cli.core.errors import InputError
from openchat_cli.core.records import Answer, Judgment, Question

_JUDGE = "first: openchat eval judge OUT --baseline NAME --judge MODEL"


@dataclass(frozen=True)
class AnswerSet:
    """The answers of one model, found by question and by id."""

    model: str
    answers: Sequence[Answer]
    by_question: Mapping[str, Sequence[Answer]]

    def has(self, question_id: str, answer_id: str) -> bool:
        """Whether this very answer is (still) the model's answer to the question."""
        return any(a.answer_id == answer_id for a in self.by_question.get(question_id, ()))

    def usable(self, question_id: str) -> bool:
        """Whether the model answered the question at all."""
        return any(answer.error is None for answer in self.by_question.get(question_id, ()))


@dataclass(frozen=True)
class Run:
    """One run folder in memory; `answers` and `baselines` by model name."""

    name: str
    questions: Mapping[str, Question]
    answers: Mapping[str, AnswerSet]
    baselines: Mapping[str, AnswerSet]
    judgments: Sequence[Judgment]

    def baseline(self, name: str) -> AnswerSet | None:
        """The baseline's answers; a model that was answered in the same run can be one, too."""
        return self.baselines.get(name) or self.answers.get(name)


def read_run(path: Path, name: str) -> Run:
    """Read a run folder.

    Raises InputError where the folder or its judgments are missing, or a row is not what it should
    be.
    """
    if not path.is_dir():
        what = "is a file, the folder of a run was expected" if path.exists() else "no such folder"
        raise InputError(f"{path}: {what}", _JUDGE)
    judgments = [j for file in _files(path / "judgments") for j in records.read(file, Judgment)]
    if not judgments:
        raise InputError(f"{path / 'judgments'}: no judgments to report", _JUDGE)
    questions = path / "questions.jsonl"
    asked = records.read(questions, Question) if questions.is_file() else ()
    return Run(
        name=name,
        questions={question.question_id: question for question in asked},
        answers=_answer_sets(path / "answers"),
        baselines=_answer_sets(path / "baseline"),
        judgments=judgments,
    )


def run_names(paths: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's name, or its whole path where two share that."""
    names = [path.resolve().name for path in paths]
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.glob("*.jsonl*") if f.name.endswith((".jsonl", ".jsonl.gz")))


def _answer_sets(folder: Path) -> dict[str, AnswerSet]:
    answers = (answer for file in _files(folder) for answer in records.read(file, Answer))
    by_model: dict[str, list[Answer]] = {}
    for answer in answers:
        by_model.setdefault(answer.model, []).append(answer)
    return {model: _answer_set(model, rows) for model, rows in by_model.items()}


def _answer_set(model: str, answers: Iterable[Answer]) -> AnswerSet:
    latest = {(a.question_id, a.sample): a for a in answers}
    by_question: dict[str, list[Answer]] = {}
    for answer in latest.values():
        by_question.setdefault(answer.question_id, []).append(answer)
    return AnswerSet(model, tuple(latest.values()), by_question)
