"""Whose answers a review is about: told by the ids of the answers, never by a file's name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core.errors import InputError, UsageError, did_you_mean
from openchat_cli.core.records import Answer, Order, Question
from openchat_cli.evaluation.foreign_answers import read_any_answers


@dataclass(frozen=True)
class Sides:
    """The answers of the baseline and of the models that reviews may be about."""

    baseline_name: str
    baseline: tuple[Answer, ...]
    models: Mapping[str, tuple[Answer, ...]]
    owners: Mapping[str, str]  # answer id -> model
    nameless: str | None  # the model whose answers have no ids: what no other owns is its

    def order(self, first: str, second: str) -> tuple[Order, str] | str:
        """Which of two answer ids was shown first, and the model's name; or why that is unknown."""
        if self.owners.get(second) == self.baseline_name:
            order: Order = "model_first"
            mine = first
        elif self.owners.get(first) == self.baseline_name:
            order, mine = "baseline_first", second
        else:
            return "not about the baseline"
        model = self.owners.get(mine, self.nameless)
        return (order, model) if model is not None else "about answers that --answers lacks"


def read_sides(files: Iterable[Path], baseline: str, questions: Sequence[Question] | None) -> Sides:
    """Read the files of answers; the baseline's is known by its model or by its file's name.

    Raises UsageError where none is the baseline's, or two have no answer ids.
    """
    found: dict[str, tuple[Answer, ...]] = {}
    names: set[str] = set()
    for path in files:
        answers = read_any_answers(path, questions)
        if not answers:
            raise InputError(f"{path}: holds no answers")
        model, stem = answers[0].model, path.name.split(".json")[0]
        its_names = {model, stem, stem.removeprefix("answer_")}
        names |= its_names
        name = baseline if baseline in its_names else model
        found[name] = tuple(dataclasses.replace(answer, model=name) for answer in answers)
    if found and baseline not in found:
        hint = did_you_mean(baseline, names)
        raise UsageError(f"none of the files of --answers is of '{baseline}'", hint)
    without = [name for name, answers in found.items() if not all(a.answer_id for a in answers)]
    if len(without) > 1:
        raise UsageError("two files of answers without ids", "import one of them at a time")
    owners = {answer.answer_id: name for name, answers in found.items() for answer in answers}
    return Sides(
        baseline_name=baseline,
        baseline=found.pop(baseline, ()),
        models=found,
        owners={answer_id: name for answer_id, name in owners.items() if answer_id},
        nameless=without[0] if without else None,
    )
