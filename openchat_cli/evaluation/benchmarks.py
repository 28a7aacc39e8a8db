"""The questions: the project's own benchmark, or a file as its authors publish it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError, UsageError, did_you_mean
from openchat_cli.core.records import Question
from openchat_cli.evaluation.foreign_answers import read_alpaca_questions
from openchat_cli.evaluation.settings import OWN_BENCHMARK

_BUILT_IN = {OWN_BENCHMARK: Path(__file__).parent / "assets" / "questions.jsonl"}


def load_questions(
    file: Path | None, benchmark: str = OWN_BENCHMARK, *, run: Path | None = None
) -> list[Question]:
    """The questions of a file, else of the run's folder where it has some, else the benchmark's.

    Reads our own rows, Vicuna's `question.jsonl` and MT-bench's (two turns).
    """
    own = run / "questions.jsonl" if run is not None else None
    if file is None and own is not None and own.is_file():
        file = own
    return read_questions(file if file is not None else _built_in(benchmark))


def read_questions(path: Path) -> list[Question]:
    """The questions of one file, JSONL or AlpacaEval's JSON.

    Raises InputError where there are none, or two with the same id.
    """
    found: dict[str, Question] = {}
    alpaca = path.name.removesuffix(".gz").endswith(".json")
    for question in read_alpaca_questions(path) if alpaca else records.read(path, Question):
        if question.question_id in found:
            raise InputError(f"{path}: question {question.question_id} is there twice")
        found[question.question_id] = question
    if not found:
        raise InputError(f"{path}: holds no questions")
    return list(found.values())


def keep_with_run(out: Path, questions: Sequence[Question], *, force: bool = False) -> None:
    """Leave the questions in the run's folder, where judging and reporting find them.

    Raises UsageError where the run already has others, unless `force`.
    """
    path = out / "questions.jsonl"
    if path.is_file():
        known = read_questions(path)
        if known == list(questions):
            return
        if not force:
            hint = "use another OUT folder, or --force to replace them"
            raise UsageError(f"{path}: this run has other questions", hint)
    jsonl.make_folder(out)
    records.write(path, questions)


def _built_in(name: str) -> Path:
    if name not in _BUILT_IN:
        raise UsageError(f"no benchmark '{name}'", did_you_mean(name, _BUILT_IN))
    return _BUILT_IN[name]
