"""The rules of `data clean` on one conversation, in the order of candidates.REASONS.

turn                what it becomes
a leading system    kept, unless it is blank; it counts as no turn
a leading gpt       left out (it answers something that was not saved)
a trailing human    left out (nobody answered it)
human               plain text, verbatim but for the page's own words at its ends
gpt                 Markdown: converted from HTML, verbatim where it is Markdown already

One leading and one trailing turn is left out, as in the original release: of two, the other breaks
the alternation. Duplicates are found by ledger.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openchat_cli.core.records import ROLES, Message
from openchat_cli.data import noise, visible
from openchat_cli.data.candidates import Candidate, RejectError, Turn
from openchat_cli.data.html import visible_text

Convert = Callable[[str], str]
_ROLES = {**ROLES, "bing": "assistant", "user": "user", "assistant": "assistant"}
_AROUND = 40  # characters shown on either side of a blocked word


@dataclass(frozen=True, slots=True)
class Kept:
    """The messages of a conversation that passed, and what was changed on the way.

    `blocked` is the blocked word that it says and was kept in spite of.
    """

    messages: tuple[Message, ...]
    notes: tuple[str, ...]
    blocked: str | None = None


def judge(
    candidate: Candidate, convert: Convert, blocked: Sequence[str], *, keep_blocked: bool = False
) -> Kept:
    """The candidate as messages; RejectError with the first rule that it breaks.

    `blocked` words are folded (visible.folded).
    """
    notes: dict[str, None] = {}  # in order, each once
    numbered = list(enumerate((_mended(turn, notes) for turn in candidate.turns), 1))
    opening = [one for one in numbered[:1] if one[1].role == "system"]
    messages = [
        (number, turn, _message(turn, _content(candidate, turn, convert, number)))
        for number, turn in _trimmed(numbered[len(opening) :], len(numbered), notes)
    ]
    for number, _, message in messages:
        if message.role == "assistant" and visible.says_nothing(message.content):
            raise RejectError("empty_answer", _what_is_there(message.content), f"turn {number}")
        if message.role == "user" and visible.is_blank(message.content):
            notes["empty_question"] = None
    for number, turn in opening:
        if visible.is_blank(turn.text):
            notes["empty_system"] = None
        else:
            messages.insert(0, (number, turn, Message("system", turn.text, turn.weight)))
    word = _blocked_word(messages, blocked, keep_blocked=keep_blocked) if blocked else None
    return Kept(tuple(message for _, _, message in messages), tuple(notes), word)


Numbered = tuple[int, Turn]


def _trimmed(
    numbered: Sequence[Numbered], there: int, notes: dict[str, None]
) -> Sequence[Numbered]:
    """The turns without a leading gpt and a trailing human; RejectError unless they alternate."""
    unanswered: Sequence[Numbered] = ()
    if numbered and _ROLES.get(numbered[0][1].role) == "assistant":
        numbered = numbered[1:]
        notes["leading_gpt"] = None
    if numbered and _ROLES.get(numbered[-1][1].role) == "user":
        numbered, unanswered = numbered[:-1], numbered[-1:]
        notes["trailing_human"] = None
    if len(numbered) < 2:
        raise RejectError("too_short", f"{len(numbered)} of {there} turns remain")
    # The one left out stands in its place: two in a row are one too many.
    for index, (number, turn) in enumerate([*numbered, *unanswered]):
        if _ROLES.get(turn.role) != ("user", "assistant")[index % 2]:
            wanted = ("human", "gpt")[index % 2]
            detail = f"'{turn.role}' where {wanted} was expected"
            raise RejectError("not_alternating", detail, f"turn {number}")
    return numbered


def _mended(turn: Turn, notes: dict[str, None]) -> Turn:
    text = noise.mended(turn.text)
    if text is turn.text:
        return turn
    notes["surrogates"] = None
    return Turn(turn.role, text, turn.form, turn.weight)


def _message(turn: Turn, content: str) -> Message:
    return Message(_ROLES[turn.role], content, turn.weight)


def _content(candidate: Candidate, turn: Turn, convert: Convert, number: int) -> str:
    if turn.form == "text":
        return noise.human_text(turn.text) if candidate.noisy else turn.text
    if turn.form == "markdown":
        return turn.text
    html = noise.answer_html(turn.text)
    try:
        return noise.mended(convert(html))
    except Exception as error:
        # One page that breaks a converter must not end a run over a hundred thousand.
        detail = f"{type(error).__name__}: {error}"
        raise RejectError("failed", detail, f"turn {number}") from error


def _what_is_there(content: str) -> str:
    if not content:
        return "nothing"
    blank = visible.is_blank(content)
    return (
        "only spaces and invisible characters"
        if blank
        else "only pictures, empty code blocks or rules"
    )


def _blocked_word(
    messages: Sequence[tuple[int, Turn, Message]], blocked: Sequence[str], *, keep_blocked: bool
) -> str | None:
    """The first blocked word of the first message that says one; RejectError unless it is kept."""
    if not _may_say(messages, blocked):
        return None
    for number, turn, message in messages:
        if turn.form == "html":
            text = visible.of_html(noise.answer_html(turn.text))
        else:
            text = _seen(turn, message)
        plain = visible.folded(text)
        word = next((word for word in blocked if word in plain), None)
        if word is not None:
            if keep_blocked:
                return word
            detail = f'{word}: "{_around(text, word)}"'
            raise RejectError("blocked_word", detail, f"turn {number}", word)
    return None


def _may_say(messages: Sequence[tuple[int, Turn, Message]], blocked: Sequence[str]) -> bool:
    """Whether a closer look for the words is needed; nearly always a quick no."""
    pages = [turn.text for _, turn, _ in messages if turn.form == "html"]
    quick = not visible.html_may_say("\n".join(pages), blocked)
    texts = [_seen(turn, one) for _, turn, one in messages if not (quick and turn.form == "html")]
    # What is not there without regard to white space is not there.
    rough = "\n".join(map(visible.caseless, texts))
    return any(all(part in rough for part in word.split()) for word in blocked)


def _seen(turn: Turn, message: Message) -> str:
    """What a reader sees, and of HTML a little more; the target of a link is not seen."""
    if turn.form == "html":
        return f"{visible_text(turn.text)}\n{visible.descriptions(turn.text)}"
    return message.content if turn.form == "text" else visible.of_markdown(message.content)


def _around(text: str, word: str) -> str:
    """The word with what stands around it, on one line."""
    line = " ".join(text.split())
    if len(folded := visible.folded(text)) != len(line):
        line = folded
    at = folded.index(word)
    start, end = max(0, at - _AROUND), at + len(word) + _AROUND
    return ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")
