"""Answers and questions in the shapes that other projects publish them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError
from openchat_cli.core.records import Answer, Question

_ALPACA = "AlpacaEval's outputs are a JSON list of {instruction, output, generator}"


def read_any_answers(path: Path, questions: Sequence[Question] | None) -> list[Answer]:
    """The answers of a file: ours, FastChat's, the original's, QLoRA's generations, AlpacaEval's.

    Where `questions` are known, AlpacaEval's outputs get their ids by the text of the instruction;
    else they are numbered from 1. Raises InputError for any other shape.
    """
    if path.name.removesuffix(".gz").endswith(".json"):
        return _alpaca_answers(path, questions)
    first = next((row for _, row in jsonl.read_rows(path)), None)
    if first is not None and "generation" in first:
        return _generations(path)
    return list(records.read(path, Answer))


def read_alpaca_questions(path: Path) -> list[Question]:
    """The questions of a file in AlpacaEval's shape, numbered from 1."""
    rows = _alpaca_rows(path)
    texts = [
        (str(row.get("dataset") or "general"), _text(path, row, "instruction")) for row in rows
    ]
    return [
        Question(str(number), category, (text,)) for number, (category, text) in enumerate(texts, 1)
    ]


def _alpaca_answers(path: Path, questions: Sequence[Question] | None) -> list[Answer]:
    known = questions if questions is not None else read_alpaca_questions(path)
    by_text: Mapping[str, str] = {
        question.turns[0].strip(): question.question_id for question in known
    }
    answers = []
    for number, row in enumerate(_alpaca_rows(path), 1):
        question_id = by_text.get(_text(path, row, "instruction").strip())
        if question_id is not None:
            generator, output = _text(path, row, "generator"), _text(path, row, "output")
            answers.append(Answer(question_id, f"{generator}-{number}", generator, (output,)))
    if not answers:
        raise InputError(f"{path}: none of its instructions is a question of this run")
    return answers


def _alpaca_rows(path: Path) -> list[dict[str, Any]]:
    rows = jsonl.read_json(path)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: answers were expected", _ALPACA)
    return rows


def _text(path: Path, row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row.get(name), str):
        raise InputError(f"{path}: a row without the text '{name}'", _ALPACA)
    return str(row[name])


def _generations(path: Path) -> list[Answer]:
    """QLoRA's generations: no answer ids and no model, so the file's name stands for it."""
    answers = []
    for number, row in jsonl.read_rows(path):
        question_id, text = row.get("question_id"), row.get("generation")
        if not isinstance(question_id, str | int) or not isinstance(text, str):
            raise InputError(f"{path}:{number}: needs 'question_id' and the text 'generation'")
        answers.append(Answer(str(question_id), "", path.name.split(".jsonl")[0], (text,)))
    return answers
