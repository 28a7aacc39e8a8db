"""Where things stand in a run's folder, and how names become file names.

OUT/questions.jsonl                     the questions of the run
OUT/answers/NAME.jsonl                  answers of the models
OUT/baseline/NAME.jsonl                 answers they are compared with
OUT/judgments/NAME_vs_BASELINE.jsonl    what the judge said
OUT/.journal/                           finished calls, so that a rerun makes none twice
"""

from __future__ import annotations

import re
from pathlib import Path

from openchat_cli.core import records
from openchat_cli.core.errors import InputError
from openchat_cli.core.records import Answer


def file_name(model: str) -> str:
    """A model's name as part of a file name: "org/model:tag" -> "org-model-tag"."""
    return re.sub(r"[^\w.+-]+", "-", model).strip("-.") or "model"


def answers_file(out: Path, model: str) -> Path:
    """The answers of a model."""
    return out / "answers" / f"{file_name(model)}.jsonl"


def baseline_file(out: Path, model: str) -> Path:
    """The answers of a baseline."""
    return out / "baseline" / f"{file_name(model)}.jsonl"


def judgments_file(out: Path, model: str, baseline: str) -> Path:
    """The judgments of a model against a baseline."""
    return out / "judgments" / f"{file_name(model)}_vs_{file_name(baseline)}.jsonl"


def journal_file(out: Path, work: str, model: str) -> Path:
    """The journal of one kind of work with one model, such as "judge" with "gpt-4"."""
    return out / ".journal" / f"{work}-{file_name(model)}.jsonl"


def read_answers(path: Path) -> list[Answer]:
    """The answers of a file, the last of each question and sample; InputError for an empty one."""
    latest = {(row.question_id, row.sample): row for row in records.read(path, Answer)}
    if not latest:
        raise InputError(f"{path}: holds no answers", "openchat eval answer makes them")
    return list(latest.values())


def answer_files(folder: Path) -> list[Path]:
    """The answer files of a folder in the order of their names."""
    return sorted(folder.glob("*.jsonl"))
