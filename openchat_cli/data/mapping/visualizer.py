"""`NAME.visualizer.json`: the shape that the page of the original OpenChat reads.

One object of lists, an entry for each conversation: `text`, its turns as "Human: …" and
"Assistant: …", each followed by the end-of-turn token; `embedding`, three numbers; `color`, a whole
number from 0 to 19. The other fields are ours, and the original's page passes them by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.jsonl import Json
from openchat_cli.data.mapping.conversations import Turn

END_OF_TURN = "<|end_of_turn|>"
COLORS = 20  # that the original's page has
_NAMES = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def text_of(turns: Sequence[Turn]) -> str:
    """The conversation as one text. An end-of-turn token inside a turn would end it: it gets
    spaces.
    """
    parts = []
    for role, text in turns:
        inside = text.replace(END_OF_TURN, "<| end_of_turn |>")
        parts.append(f"{_NAMES.get(role, 'Human')}: {inside}{END_OF_TURN}")
    return "".join(parts)


def write(path: Path, lists: dict[str, Iterable[Json]], values: dict[str, Any]) -> None:
    """Write the object, list by list and entry by entry, whole or not at all."""
    with jsonl.atomic_output(path) as stream:
        for part in _parts(lists, values):
            stream.write(part.encode())


def _parts(lists: dict[str, Iterable[Json]], values: dict[str, Any]) -> Iterator[str]:
    yield "{"
    for number, (name, entries) in enumerate(lists.items()):
        yield (",\n" if number else "") + f'"{name}":['
        for place, entry in enumerate(entries):
            yield ("," if place else "") + jsonl.dumps(entry)
        yield "]"
    for name, value in values.items():
        yield f',\n"{name}":{jsonl.dumps(value)}'
    yield "}\n"
