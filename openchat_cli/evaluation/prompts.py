"""The judge's own prompts: text files beside this module, filled in for one pair of answers."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from openchat_cli.core.records import Answer, Question

Format = Literal["json", "text"]

_FOLDER = Path(__file__).parent / "prompts"
# The categories whose tasks differ; every other is judged by the general one.
_TASKS = {"coding": "coding", "math": "math"}

VERDICT_SCHEMA: Mapping[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            # The evidence comes first, so that the scores follow from it.
            "properties": {
                "evidence": {"type": "string"},
                "assistant_1_score": {"type": "number"},
                "assistant_2_score": {"type": "number"},
            },
            "required": ["evidence", "assistant_1_score", "assistant_2_score"],
            "additionalProperties": False,
        },
    },
}


def messages(
    question: Question, first: Answer, second: Answer, format_: Format
) -> list[dict[str, str]]:
    """What the judge is asked about two answers, in the order in which they are shown.

    In coding and mathematics the reference answer is shown too, where the question has one.
    """
    task = _TASKS.get(question.category.lower(), "general")
    reference = ""
    if task != "general" and question.reference:
        solution = "\n\n".join(question.reference)
        reference = _filled(_text("reference"), {"reference": solution})
    values = {
        "question": question.turns[0] if len(question.turns) == 1 else _numbered(question.turns),
        "answer_1": _shown(question, first),
        "answer_2": _shown(question, second),
        "reference": reference,
        "task": _text(task),
        "output": _text(f"output_{format_}"),
    }
    return [
        {"role": "system", "content": _text("system")},
        {"role": "user", "content": _filled(_text("pair"), values)},
    ]


def repair(asked: list[dict[str, str]], said: str, format_: Format) -> list[dict[str, str]]:
    """The one further question where no scores could be read in what the judge said."""
    again = {"role": "user", "content": _text(f"repair_{format_}")}
    return [*asked, {"role": "assistant", "content": said}, again]


@functools.cache
def prompt_hash(format_: Format) -> str:
    """A short name for the whole set of prompts in one format: equal hashes, equal prompts."""
    names = ["system", "pair", "reference", "general", "coding", "math"]
    texts = [_text(name) for name in (*names, f"output_{format_}", f"repair_{format_}")]
    if format_ == "json":
        texts.append(json.dumps(VERDICT_SCHEMA))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _shown(question: Question, answer: Answer) -> str:
    return answer.turns[0] if len(question.turns) == 1 else _numbered(answer.turns)


def _numbered(turns: tuple[str, ...]) -> str:
    """Several turns under one another, so that question and answer can be matched."""
    return "\n\n".join(f"(turn {number})\n{text}" for number, text in enumerate(turns, 1))


def _filled(template: str, values: Mapping[str, str]) -> str:
    # In one pass: a placeholder written in an answer stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


@functools.cache
def _text(name: str) -> str:
    return (_FOLDER / f"{name}.txt").read_text("utf-8").rstrip("\n")
