"""The rules of `data clean`, in the order of candidates.REASONS; duplicates are found by clean.py.

turn                what it becomes
a leading gpt       left out (it answers something that was not saved)
a trailing human    left out (nobody answered it)
human               plain text, verbatim but for the page's own words at its ends
gpt                 Markdown: converted from HTML, verbatim where it is Markdown already
a leading system    kept; it counts as no turn
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openchat_cli.core.records import ROLES, Message
from openchat_cli.data import noise
from openchat_cli.data.candidates import Candidate, RejectError, Turn
from openchat_cli.data.html import visible_text

Convert = Callable[[str], str]
_ROLES = {**ROLES, "bing": "assistant", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Kept:
    """The messages of a conversation that passed, and what was changed on the way."""

    messages: tuple[Message, ...]
    notes: tuple[str, ...]


def judge(candidate: Candidate, convert: Convert, blocked: Sequence[str]) -> Kept:
    """The candidate as messages; RejectError with the first rule that it breaks.

    `blocked` words are in lower case.
    """
    notes: list[str] = []
    turns = [_mended(turn, notes) for turn in candidate.turns]
    system = [turn for turn in turns[:1] if turn.role == "system"]
    turns = turns[len(system) :]
    first = len(candidate.turns) - len(turns) + 1
    if turns and _ROLES.get(turns[0].role) == "assistant":
        turns, first = turns[1:], first + 1
        notes.append("leading_gpt")
    if turns and _ROLES.get(turns[-1].role) == "user":
        turns = turns[:-1]
        notes.append("trailing_human")
    if len(turns) < 2:
        raise RejectError("too_short", f"{len(candidate.turns)} turns, {len(turns)} remain")
    _check_alternation(turns, first)
    places = [f"turn {first + index}" for index in range(len(turns))]
    messages = [
        Message(_ROLES[turn.role], _content(turn, candidate.noisy, convert, place), turn.weight)
        for turn, place in zip(turns, places, strict=True)
    ]
    for message, place in zip(messages, places, strict=True):
        if message.role == "assistant" and not message.content.strip():
            raise RejectError("empty_answer", where=place)
    opening = [Message("system", turn.text, turn.weight) for turn in system]
    messages = opening + messages
    if blocked:
        places = ["turn 1"] * len(opening) + places
        for turn, message, place in zip([*system, *turns], messages, places, strict=True):
            _check_words(turn, message, blocked, place)
    return Kept(tuple(messages), tuple(notes))


def _mended(turn: Turn, notes: list[str]) -> Turn:
    text = noise.mended(turn.text)
    if text is turn.text:
        return turn
    if "surrogates" not in notes:
        notes.append("surrogates")
    return Turn(turn.role, text, turn.form, turn.weight)


def _check_alternation(turns: Sequence[Turn], first: int) -> None:
    for index, turn in enumerate(turns):
        expected = ("user", "assistant")[index % 2]
        if _ROLES.get(turn.role) != expected:
            wanted = ("human", "gpt")[index % 2]
            detail = f"'{turn.role}' where {wanted} was expected"
            raise RejectError("not_alternating", detail, f"turn {first + index}")


def _content(turn: Turn, noisy: bool, convert: Convert, place: str) -> str:
    if turn.form == "text":
        return noise.human_text(turn.text) if noisy else turn.text
    if turn.form == "markdown":
        return turn.text
    html = noise.answer_html(turn.text)
    try:
        return noise.mended(convert(html))
    except Exception as error:
        # One page that breaks a converter must not end a run over a hundred thousand.
        raise RejectError("failed", f"{type(error).__name__}: {error}", place) from error


def _check_words(turn: Turn, message: Message, blocked: Sequence[str], place: str) -> None:
    """Look at what a reader sees: the target of a link is not text."""
    text = visible_text(turn.text) if turn.form == "html" else message.content
    text = text.lower()
    for word in blocked:
        if word in text:
            raise RejectError("blocked_word", word, place)
