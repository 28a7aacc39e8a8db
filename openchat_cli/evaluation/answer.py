"""`openchat eval answer`: the answers of one or several models to the questions of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Answer, Question
from openchat_cli.evaluation import benchmarks, run_layout
from openchat_cli.evaluation.asking import EndpointSource, FolderSource, Wanted
from openchat_cli.evaluation.settings import AnswerSettings
from openchat_cli.model import hub

Source = EndpointSource | FolderSource


@dataclass(frozen=True)
class AnswerSummary:
    """What was written; `reused` answers are from an earlier run with the same settings."""

    outputs: tuple[Path, ...]
    models: tuple[str, ...]
    answers: int
    failed: int
    reused: int


def answer(settings: AnswerSettings, *, progress: Progress = SILENT) -> AnswerSummary:
    """Answer every question with every model; writes OUT/answers/NAME.jsonl and the questions.

    An answer that failed is written with its `error`; a rerun asks for those again and for no
    others. Raises UsageError for outputs made with other settings unless `force`.
    """
    sources = _sources(settings, progress)
    questions = benchmarks.load_questions(settings.questions, settings.benchmark)
    benchmarks.keep_with_run(settings.out, questions, force=settings.force)
    summary = AnswerSummary((), (), 0, 0, 0)
    for source in sources:
        path = run_layout.answers_file(settings.out, source.name)
        made = answer_with(
            source, questions, path, out=settings.out, force=settings.force, progress=progress
        )
        summary = _joined(summary, made)
    return summary


def _sources(settings: AnswerSettings, progress: Progress) -> list[Source]:
    """Whom to ask; UsageError where that is not clear."""
    if settings.model_paths and settings.model:
        raise UsageError("give a model folder or an endpoint's model, not both")
    if settings.model:
        settings.endpoint.require_key("--model-path answers from a local model")
        name = settings.name or settings.model
        return [EndpointSource(settings.endpoint, settings.model, name, settings.sampling)]
    found = [model for path in settings.model_paths for model in named_models(path, progress)]
    if not found:
        hint = "--model-path FOLDER, or --url URL --model NAME"
        raise UsageError("no model to answer with", hint)
    if settings.name and len(found) > 1:
        raise UsageError(f"one --name for {len(found)} models: leave it out")
    names = [settings.name or name for name, _ in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(
            f"two models are called '{min(twice)}'", "rename a folder, or answer apart"
        )
    return [
        FolderSource(folder, name, settings.sampling, settings.local)
        for (_, folder), name in zip(found, names, strict=True)
    ]


def named_models(path: Path, progress: Progress = SILENT) -> list[tuple[str, Path]]:
    """The model at a path, or the models in it, or the hub's model of that name: (name, folder)."""
    if not path.exists() and hub.is_name(path):
        return [(hub.short_name(path), hub.local(path, progress=progress))]
    return [(folder.resolve().name, folder) for folder in _model_folders(path)]


def _model_folders(path: Path) -> list[Path]:
    if (path / "config.json").is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such model folder")
    found = sorted(folder for folder in path.iterdir() if (folder / "config.json").is_file())
    if not found:
        raise InputError(f"{path}: no model here (no config.json in it nor in its folders)")
    return found


def answer_with(
    source: Source,
    questions: Sequence[Question],
    path: Path,
    *,
    out: Path,
    force: bool,
    progress: Progress = SILENT,
) -> AnswerSummary:
    """Have one model's answers and write them to `path`, in the order of the questions."""
    jsonl.make_folder(path.parent)
    wanted = [
        Wanted(question, sample)
        for question in questions
        for sample in range(source.sampling.samples)
    ]
    found = {} if force else _finished(path, source)
    reused = sum(item.key in found for item in wanted)

    def done(answer: Answer) -> None:
        found[answer.question_id, answer.sample] = answer
        task.advance()

    missing = [item for item in wanted if item.key not in found]
    with (
        Journal(run_layout.journal_file(out, "answer", source.name)) as journal,
        progress.task(f"answering with {source.name}", len(wanted), "answers") as task,
    ):
        task.advance(reused)
        if missing:
            source.ask(missing, journal, done, progress=progress)
    answers = [found[item.key] for item in wanted]
    records.write(path, answers)
    failed = sum(answer.error is not None for answer in answers)
    return AnswerSummary((path,), (source.name,), len(answers), failed, reused)


def _finished(path: Path, source: Source) -> dict[tuple[str, int], Answer]:
    """The answers that a file already holds; UsageError where they are of other settings."""
    if not path.is_file():
        return {}
    answers = list(records.read(path, Answer))
    if any(answer.settings_hash != source.settings_hash for answer in answers):
        hint = "add --force to replace them, or use --name or another OUT folder"
        raise UsageError(f"{path}: already there, made with other settings", hint)
    return {(a.question_id, a.sample): a for a in answers if a.error is None}


def _joined(one: AnswerSummary, other: AnswerSummary) -> AnswerSummary:
    return AnswerSummary(
        one.outputs + other.outputs,
        one.models + other.models,
        one.answers + other.answers,
        one.failed + other.failed,
        one.reused + other.reused,
    )
