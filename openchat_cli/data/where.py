"""`--where FIELD OP VALUE`: a condition on one field of a row. Nothing in it is ever executed.

    source ~ ^ShareGPT/        weight >= 0.5        condition =        messages.-1.role != user

FIELD is a name, or a path of names and places with dots between. A path that meets a list without
saying a place goes through all of it, and one element is enough. `turns`, `chars`, `longest` and
`model` are computed (see Entry).
"""

from __future__ import annotations

import difflib
import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from openchat_cli.core.errors import UsageError
from openchat_cli.data.entry import Entry
from openchat_cli.data.patterns import compile_pattern

# Whether a field's value meets the condition; None where the two can't be compared.
_Test = Callable[[Any], bool | None]

_SHAPE = re.compile(r"(?s)([^=!<>~]*)(==|=|!=|!~|<=|>=|<|>|~)(.*)")
_PLACE = re.compile(r"\[(-?\d+)\]")  # messages[0], for those who write it so
_OPERATORS = "= != < <= > >= ~ !~"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

# Fields that mean the same whatever the shape of the row.
_FIELDS: dict[str, Callable[[Entry], Any]] = {
    "turns": Entry.turns,
    "chars": Entry.chars,
    "longest": Entry.longest,
    "model": Entry.label,
    "id": lambda entry: entry.conversation.id,
    "source": lambda entry: entry.conversation.source,
    "language": lambda entry: entry.language,
    "condition": lambda entry: entry.conversation.condition,
    "weight": lambda entry: entry.conversation.weight,
    "messages": lambda entry: entry.conversation.to_row()["messages"],
}
_NUMERIC = {"turns", "chars", "longest", "weight"}


@dataclass
class Condition:
    """One parsed `--where`; it remembers whether any row had something to compare."""

    text: str
    path: tuple[str, ...]
    negated: bool
    test: _Test | None  # None: whether the field is empty
    seen: bool = False
    compared: bool = False
    names: set[str] = field(default_factory=set)  # the fields of the first row

    def holds(self, entry: Entry) -> bool:
        """Whether a row meets it; a field that is missing or null is empty and equals nothing."""
        if not self.names:
            self.names = {*entry.row, *_FIELDS}
        values = [value for value in self._values(entry) if value is not None]
        if self.test is None:
            self.seen = self.seen or bool(values)
            return all(value in ("", {}) for value in values) is not self.negated
        found = False
        for value in values:
            result = self.test(value)
            self.seen = True
            self.compared = self.compared or result is not None
            found = found or bool(result)
        return found is not self.negated

    def advice(self) -> str | None:
        """What looks wrong with it after all rows: a field that none has, or of another type."""
        if not self.names:
            return None  # no row came as far as this condition
        name = ".".join(self.path)
        if not self.seen and self.path[0] not in _FIELDS:
            near = difflib.get_close_matches(name, self.names, n=1)
            there = f"did you mean '{near[0]}'?" if near else f"there are {_listed(self.names)}"
            return f"--where '{self.text}': no row that was looked at has a '{name}'; {there}"
        if not self.seen and name == "language" and self.test is not None:
            return f"--where '{self.text}': no row has a language yet; --lang any fills it in"
        if self.seen and self.test is not None and not self.compared:
            return f"--where '{self.text}': no '{name}' could be compared with that value"
        return None

    def _values(self, entry: Entry) -> Iterator[Any]:
        known = _FIELDS.get(self.path[0])
        if known is None:
            return _reached(entry.row, self.path)
        return _reached(known(entry), self.path[1:])


def parse(text: str) -> Condition:
    """A condition; UsageError says at which character it can't be read."""
    option = f"--where '{text}'"
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        place = len(re.split("[=!<>~]", text, maxsplit=1)[0]) + 1
        message = f"{option}: an operator was expected at character {place}"
        raise UsageError(message, f"write FIELD OP VALUE, OP one of {_OPERATORS}")
    parts = shape[1].split(".")
    if not all(part.strip() for part in parts):
        empty = next(k for k, part in enumerate(parts) if not part.strip())
        message = f"{option}: a field was expected at character {len('.'.join(parts[:empty])) + 1}"
        raise UsageError(message, "such as source, weight, turns or messages.0.content")
    path = tuple(part.strip() for part in _PLACE.sub(r".\1", shape[1]).split("."))
    sign, value = shape[2], shape[3].strip()
    begins = len(text) - len(shape[3].lstrip())
    return Condition(text, path, sign.startswith("!"), _test(option, path, sign, value, begins))


def _test(option: str, path: tuple[str, ...], sign: str, value: str, begins: int) -> _Test | None:
    if sign in ("~", "!~"):
        pattern = compile_pattern(option, value, at=begins)
        return lambda found: _searched(pattern, found)
    if not value:
        if sign in _ORDER:
            raise UsageError(f"{option}: a value was expected at character {begins + 1}")
        return None
    text = _quoted(value)
    number = float(value) if text is None and _NUMBER.fullmatch(value) else None
    if number is None and len(path) == 1 and path[0] in _NUMERIC:
        raise UsageError(
            f"{option}: {path[0]} is a number, '{value}' at character {begins + 1} is not"
        )
    if sign in _ORDER:
        compare = _ORDER[sign]
        return lambda found: _ordered(compare, found, value if text is None else text, number)
    return lambda found: _equal(found, value if text is None else text, number, text is not None)


def _quoted(value: str) -> str | None:
    """The text inside "double quotes", which keep blanks and make a number a text."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return None
    try:
        text = json.loads(value)
    except json.JSONDecodeError:
        return None
    return text if isinstance(text, str) else None


def _searched(pattern: re.Pattern[str], found: Any) -> bool | None:
    if isinstance(found, bool | int | float):
        found = json.dumps(found)
    return bool(pattern.search(found)) if isinstance(found, str) else None


def _ordered(
    compare: Callable[[Any, Any], bool], found: Any, text: str, number: float | None
) -> bool | None:
    if number is None:
        return compare(found, text) if isinstance(found, str) else None
    numeric = isinstance(found, int | float) and not isinstance(found, bool)
    return compare(found, number) if numeric else None


def _equal(found: Any, text: str, number: float | None, only_text: bool) -> bool | None:
    if isinstance(found, str):
        return found == text
    if isinstance(found, bool):
        return None if only_text or text not in ("true", "false") else found is (text == "true")
    if isinstance(found, int | float):
        return None if number is None else bool(found == number)
    return None


def _reached(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """What lies at the end of a path; the elements, where that is a list."""
    if isinstance(value, list):
        if path and re.fullmatch(r"-?\d+", path[0]):
            place = int(path[0])
            if -len(value) <= place < len(value):
                yield from _reached(value[place], path[1:])
        else:
            for element in value:
                yield from _reached(element, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        if path[0] in value:
            yield from _reached(value[path[0]], path[1:])
        elif ".".join(path) in value:  # a column whose own name has a dot
            yield from _reached(value[".".join(path)], ())


def _listed(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:20]) + (" …" if len(shown) > 20 else "")
