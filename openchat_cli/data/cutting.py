"""`--split`: a conversation that is longer than the context becomes several, cut between turns.

Every piece begins with a user's turn, after the system message of the conversation where there is
one, and takes as many exchanges as fit. An exchange that is longer than the context by itself is a
piece of its own, to be truncated.
"""

from __future__ import annotations

from collections.abc import Sequence

from openchat_cli.core import templates
from openchat_cli.core.records import Message
from openchat_cli.core.registry import ModelType
from openchat_cli.data.render import Laid, Renderer


def pieces(
    renderer: Renderer, kind: ModelType, messages: Sequence[Message], weight: float
) -> list[Laid]:
    """The conversation in pieces."""
    system, exchanges = _exchanges(messages)
    alone = [_laid(renderer, kind, part, weight) for part in exchanges]
    heading = [_laid(renderer, kind, [*system, *part], weight) for part in exchanges]
    found: list[Laid] = []
    room = 0
    for plain, headed in zip(alone, heading, strict=True):
        size = renderer.size(plain.turns, plain.ids)
        if found and size <= room:
            found[-1].turns = [*found[-1].turns, *plain.turns]
            found[-1].ids += plain.ids
            room -= size
        else:
            found.append(headed)
            room = renderer.room - renderer.size(headed.turns, headed.ids)
    return found


def _laid(renderer: Renderer, kind: ModelType, part: Sequence[Message], weight: float) -> Laid:
    return renderer.cut(templates.turns(kind, part), weight, all_of_it=True)


def _exchanges(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system messages that the conversation begins with, and the exchanges after them.

    An exchange goes from a user's turn (or the system message right before it) to the next one that
    follows an answer.
    """
    first = next(
        (at for at, message in enumerate(messages) if message.role != "system"), len(messages)
    )
    exchanges: list[list[Message]] = []
    for message in messages[first:]:
        begins = message.role in ("user", "system")
        if not exchanges or (begins and exchanges[-1][-1].role not in ("user", "system")):
            exchanges.append([])
        exchanges[-1].append(message)
    return list(messages[:first]), exchanges
