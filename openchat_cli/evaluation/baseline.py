"""`openchat eval baseline`: the answers that others are compared with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Answer, Question
from openchat_cli.evaluation import benchmarks, run_layout
from openchat_cli.evaluation.answer import AnswerSummary, Source, answer_with, named_models
from openchat_cli.evaluation.asking import EndpointSource, FolderSource
from openchat_cli.evaluation.foreign_answers import read_alpaca_questions, read_any_answers
from openchat_cli.evaluation.settings import BaselineSettings


def baseline(settings: BaselineSettings, *, progress: Progress = SILENT) -> AnswerSummary:
    """Make or take over a baseline; writes OUT/baseline/NAME.jsonl.

    Raises UsageError unless exactly one of `model`, `model_path` and `answers` is given.
    """
    given = [settings.model, settings.model_path, settings.answers]
    if sum(item is not None for item in given) != 1:
        hint = "--model NAME (of an API), --model-path FOLDER, or --from FILE"
        raise UsageError("a baseline comes from exactly one place", hint)
    if settings.answers is not None:
        return _taken_over(settings, settings.answers, progress)
    source = _source(settings, progress)
    questions = benchmarks.load_questions(settings.questions, settings.benchmark, run=settings.out)
    benchmarks.keep_with_run(settings.out, questions, force=settings.force)
    path = run_layout.baseline_file(settings.out, source.name)
    return answer_with(
        source, questions, path, out=settings.out, force=settings.force, progress=progress
    )


def _source(settings: BaselineSettings, progress: Progress) -> Source:
    if settings.model is not None:
        settings.endpoint.require_key("--model-path takes a local model, --from a file")
        name = settings.name or settings.model
        return EndpointSource(settings.endpoint, settings.model, name, settings.sampling)
    models = named_models(settings.model_path or Path(), progress)
    if len(models) != 1:
        raise UsageError(f"{settings.model_path}: one model is a baseline, here are {len(models)}")
    ((name, folder),) = models
    return FolderSource(folder, settings.name or name, settings.sampling, settings.local)


def _taken_over(settings: BaselineSettings, file: Path, progress: Progress) -> AnswerSummary:
    questions = _questions_of(settings, file)
    answers = read_any_answers(file, questions)
    models = {answer.model for answer in answers}
    if not answers:
        raise InputError(f"{file}: holds no answers")
    if len(models) > 1 and settings.name is None:
        raise InputError(f"{file}: holds answers of {len(models)} models", "say which: --name NAME")
    name = settings.name or answers[0].model
    if settings.name in models:
        answers = [answer for answer in answers if answer.model == name]
    if questions is not None:
        answers = _for_questions(file, answers, questions, progress)
        benchmarks.keep_with_run(settings.out, questions, force=settings.force)
    path = run_layout.baseline_file(settings.out, name)
    made = [dataclasses.replace(answer, model=name) for answer in answers]
    if not (path.is_file() and list(records.read(path, Answer)) == made):
        jsonl.claim([path], force=settings.force)
    records.write(path, made)
    return AnswerSummary((path,), (name,), len(answers), 0, 0)


def _questions_of(settings: BaselineSettings, file: Path) -> list[Question] | None:
    """The run's questions where they are known; AlpacaEval's file brings its own."""
    if settings.questions is not None:
        return benchmarks.read_questions(settings.questions)
    if (settings.out / "questions.jsonl").is_file():
        return benchmarks.read_questions(settings.out / "questions.jsonl")
    if file.name.removesuffix(".gz").endswith(".json"):
        return read_alpaca_questions(file)
    return None


def _for_questions(
    file: Path, answers: list[Answer], questions: list[Question], progress: Progress
) -> list[Answer]:
    wanted = {question.question_id for question in questions}
    kept = [answer for answer in answers if answer.question_id in wanted]
    if not kept:
        raise InputError(f"{file}: none of its answers is for a question of this run")
    missing = len(wanted - {answer.question_id for answer in kept})
    if missing:
        progress.warn(f"{file}: {missing} of the {len(wanted)} questions have no answer in it")
    if len(kept) < len(answers):
        progress.warn(f"{file}: left out {len(answers) - len(kept)} answers to other questions")
    return kept
