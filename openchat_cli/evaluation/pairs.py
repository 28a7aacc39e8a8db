"""Which answers meet which: every answer file of a run against one baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core.errors import InputError, did_you_mean
from openchat_cli.core.progress import Progress
from openchat_cli.core.records import Answer, Question
from openchat_cli.evaluation import run_layout


@dataclass(frozen=True, slots=True)
class Pair:
    """A model's answer and the baseline's to the same question."""

    question: Question
    answer: Answer
    baseline: Answer

    @property
    def fault(self) -> str | None:
        """Why there is nothing to judge."""
        for who, answer in (("model", self.answer), ("baseline", self.baseline)):
            if answer.error is not None:
                return f"the {who}'s answer failed: {answer.error}"
            if len(answer.turns) < len(self.question.turns):
                return f"the {who}'s answer lacks a turn"
        return None


@dataclass(frozen=True)
class Match:
    """One model against the baseline."""

    model: str
    baseline: str
    pairs: tuple[Pair, ...]


def matches(
    out: Path, baseline: str, questions: Sequence[Question], progress: Progress
) -> list[Match]:
    """A match for every answer file but the baseline's own.

    Raises InputError where the baseline, the answers or all answers to these questions are missing.
    """
    known = {question.question_id: question for question in questions}
    against = _baseline(out, baseline)
    files = run_layout.answer_files(out / "answers")
    found = []
    for path in files:
        answers = run_layout.read_answers(path)
        model = answers[0].model
        if any(answer.model != model for answer in answers):
            raise InputError(f"{path}: holds answers of more than one model")
        if model == against[0].model:
            continue
        pairs = tuple(_pairs(answers, against, known))
        missing = len({a.question_id for a in answers} - {p.question.question_id for p in pairs})
        if missing:
            progress.warn(f"{path}: {missing} answers have no question or no baseline answer")
        if pairs:
            found.append(Match(model, against[0].model, pairs))
    if not found:
        hint = f"openchat eval answer {out} --model-path MODEL"
        if files:  # all that is there bears the baseline's name
            hint += "; --name tells a model from its baseline"
        raise InputError(f"{out / 'answers'}: no answers to compare with '{baseline}'", hint)
    return found


def _pairs(
    answers: Sequence[Answer], against: Sequence[Answer], questions: dict[str, Question]
) -> Iterator[Pair]:
    """In the order of the questions; the n-th sample meets the baseline's n-th, else its first."""
    baselines = {(answer.question_id, answer.sample): answer for answer in against}
    place = {question_id: index for index, question_id in enumerate(questions)}
    known = [answer for answer in answers if answer.question_id in questions]
    for answer in sorted(known, key=lambda a: (place[a.question_id], a.sample)):
        key = (answer.question_id, answer.sample)
        other = baselines.get(key) or baselines.get((answer.question_id, 0))
        if other is not None:
            yield Pair(questions[answer.question_id], answer, other)


def _baseline(out: Path, name: str) -> list[Answer]:
    """The baseline's answers; a model answered in the same run can be one, too."""
    path = run_layout.baseline_file(out, name)
    if not path.is_file():
        path = run_layout.answers_file(out, name)
    if path.is_file():
        return run_layout.read_answers(path)
    if not out.is_dir():
        raise InputError(f"{out}: no such folder", "openchat eval answer makes one")
    names = [file.stem for file in run_layout.answer_files(out / "baseline")]
    hint = did_you_mean(name, names) if names else "openchat eval baseline makes one"
    raise InputError(f"{out / 'baseline'}: no baseline '{name}'", hint)
