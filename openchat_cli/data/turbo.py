"""The data of a page that ChatGPT shares since it uses React Router: a stream of references.

The page calls `streamController.enqueue("…")` with pieces of a text. Its first line is a JSON list
in which every value stands once: an object `{"_3": 5}` has the key at place 3 and the value at
place 5, a list holds places, and a negative place stands for undefined, NaN and the like.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ENQUEUE = re.compile(r"streamController\.enqueue\(\s*(?=\")")
_CONVERSATION = ("linear_conversation", "mapping")
_DEEPEST = 200


def conversation(page: str) -> dict[str, Any] | None:
    """The object of the page's data that holds a conversation, None where there is none."""
    table = _table(page)
    for entry in table:
        if isinstance(entry, dict) and any(_key(table, key) in _CONVERSATION for key in entry):
            found = _Resolver(table).value(entry)
            if any(isinstance(found.get(key), list | dict) for key in _CONVERSATION):
                return dict(found)
    return None


def _table(page: str) -> list[Any]:
    """The list of all values; empty where the page has none that can be read."""
    decoder = json.JSONDecoder()
    pieces: list[str] = []
    for call in _ENQUEUE.finditer(page):
        try:
            piece, _ = decoder.raw_decode(page, call.end())
        except ValueError:
            break
        pieces.append(str(piece))
    try:
        table = json.loads("".join(pieces).lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return []
    return table if isinstance(table, list) else []


def _key(table: list[Any], key: str) -> Any:
    place = key[1:]
    if not key.startswith("_") or not place.isdecimal() or len(place) > 9:
        return key
    return table[int(place)] if int(place) < len(table) else key


class _Resolver:
    """Puts values in the place of references, each value once."""

    def __init__(self, table: list[Any]) -> None:
        self._table = table
        self._known: dict[int, Any] = {}

    def at(self, place: object, depth: int) -> Any:
        if not isinstance(place, int) or isinstance(place, bool):
            return None
        if not 0 <= place < len(self._table) or depth > _DEEPEST:
            return None
        if place not in self._known:
            self._known[place] = None  # what refers to itself ends here
            self._known[place] = self.value(self._table[place], depth)
        return self._known[place]

    def value(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, dict):
            return {
                str(_key(self._table, key)): self.at(place, depth + 1)
                for key, place in value.items()
            }
        if isinstance(value, list):
            if value and isinstance(value[0], str):
                return None  # a date, a promise and other things with a letter before them
            return [self.at(place, depth + 1) for place in value]
        return value
