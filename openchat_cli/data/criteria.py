"""The criteria of `data filter`, in the order in which a conversation meets them.

    ids, model, min-turns, max-turns, min-chars, max-chars, lang, where …

The first that a conversation fails is what its drop is counted under. Each is cheap next to the
detection of languages, which therefore only sees what the ones before it let through; `where`
comes after it and sees the language that was found.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openchat_cli.core import jsonl
from openchat_cli.core.errors import UsageError
from openchat_cli.data import languages, patterns, sample, where
from openchat_cli.data.entry import Entry
from openchat_cli.data.ids import read_ids
from openchat_cli.data.settings import FilterSettings

DEFAULT_MODEL = "GPT-4"  # as in the original release
NO_LABEL = "(none)"  # how reports list conversations without a label or a language
_FEW = 5  # ids that a warning names


@dataclass
class Criterion:
    """One thing asked of a conversation, and what to tell about it after the last one."""

    name: str
    keeps: Callable[[Entry], bool]
    advice: Callable[[], Iterable[str]] = tuple


def models_of(settings: FilterSettings) -> tuple[str, ...]:
    """The labels that are asked for, said or not."""
    return settings.model or (("any",) if settings.ids else (DEFAULT_MODEL,))


def check(settings: FilterSettings) -> None:
    """Raise for settings that can't work, before long work; what can be read once stays unread."""
    ids = settings.ids
    if ids is not None and (ids == jsonl.STDIO or (ids.exists() and not ids.is_file())):
        settings = dataclasses.replace(settings, ids=None)
    criteria(settings, Counter())
    amount(settings)


def amount(settings: FilterSettings) -> sample.Amount | None:
    """How much of what meets the criteria is taken; None is all."""
    return None if settings.sample is None else sample.amount(settings.sample)


def criteria(settings: FilterSettings, found: Counter[str]) -> list[Criterion]:
    """What the settings ask for, in order; the languages that are looked at go to `found`.

    Raises UsageError for an option that can't work and InputError for a file of ids without any.
    """
    asked = [_of_models(models_of(settings))]
    asked += _of_bounds("turns", settings.min_turns, settings.max_turns, Entry.turns)
    asked += _of_bounds("chars", settings.min_chars, settings.max_chars, Entry.chars)
    if settings.lang:
        asked.append(_of_languages(languages.chosen(settings.lang), found))
    asked += [_of_condition(where.parse(text)) for text in settings.where]
    if settings.ids is not None:
        if settings.ids == settings.input == jsonl.STDIO:
            raise UsageError("--ids -: stdin can't be both the ids and INPUT")
        asked.insert(0, _of_ids(settings.ids))
    return asked


def _of_ids(path: Path) -> Criterion:
    wanted = read_ids(path)
    missing = dict(wanted)

    def keeps(entry: Entry) -> bool:
        missing.pop(entry.conversation.id, None)
        return entry.conversation.id in wanted

    def advice() -> Iterator[str]:
        if missing:
            few = ", ".join(list(missing)[:_FEW]) + (" …" if len(missing) > _FEW else "")
            yield f"--ids {path}: {len(missing)} of {len(wanted)} ids are not there: {few}"

    return Criterion("ids", keeps, advice)


def _of_models(wanted: tuple[str, ...]) -> Criterion:
    tests = {text: patterns.label_test(text) for text in wanted}
    unmet = set(tests)
    verdicts: dict[str | None, bool] = {}  # labels are few, conversations many

    def keeps(entry: Entry) -> bool:
        label = entry.conversation.model
        if label not in verdicts:
            met = {text for text, test in tests.items() if test(label)}
            unmet.difference_update(met)
            verdicts[label] = bool(met)
        return verdicts[label]

    def advice() -> Iterator[str]:
        for text in tests:
            if text in unmet and len(tests) > 1:
                yield f"--model {text}: no conversation has such a label"

    return Criterion("model", keeps, advice)


def _of_bounds(
    name: str, least: int | None, most: int | None, count: Callable[[Entry], int]
) -> Iterator[Criterion]:
    for option, bound in ((f"--min-{name}", least), (f"--max-{name}", most)):
        if bound is not None and bound < 0:
            raise UsageError(f"{option} {bound}: can't be negative")
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min-{name} {least} is more than --max-{name} {most}")
    if least is not None:
        yield Criterion(f"min-{name}", lambda entry: count(entry) >= least)
    if most is not None:
        yield Criterion(f"max-{name}", lambda entry: count(entry) <= most)


def _of_languages(wanted: tuple[str, ...], found: Counter[str]) -> Criterion:
    languages.require()

    def keeps(entry: Entry) -> bool:
        if not entry.language:
            texts = (message.content for message in entry.conversation.messages)
            entry.language = languages.of_messages(texts)
        code = languages.known(entry.language) or entry.language
        found[code or NO_LABEL] += 1
        return languages.ANY in wanted or (code or languages.NONE) in wanted

    def advice() -> Iterator[str]:
        for code in wanted:
            label = NO_LABEL if code == languages.NONE else code
            if code != languages.ANY and len(wanted) > 1 and not found[label]:
                yield f"--lang {code}: no conversation is in it"

    return Criterion("lang", keeps, advice)


def _of_condition(condition: where.Condition) -> Criterion:
    def advice() -> Iterator[str]:
        text = condition.advice()
        if text is not None:
            yield text

    return Criterion(f"where {condition.text}", condition.holds, advice)
