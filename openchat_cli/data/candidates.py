"""What a source offers before anything is judged: a conversation that may become a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Form = Literal["text", "html", "markdown"]

# Why something is left out, in the order in which it is looked at; the first reason counts.
# docs/data.md has this table, and a test compares the two.
REASONS = {
    "unreadable": "the file can't be opened, unpacked or read",
    "not_html": "the page is empty or holds no HTML",
    "not_utf8": "the bytes are not UTF-8",
    "no_data": "the page has neither __NEXT_DATA__ nor a saved chat",
    "bad_json": "the JSON is cut off or broken",
    "no_content": "the page or row holds no conversation",
    "unknown_shape": "the JSON is not a conversation in a known form",
    "bad_turn": "a turn has no role or no text",
    "not_text": "a message has pictures, sound or files",
    "tool_use": "the answers come from tools or stand in a canvas",
    "too_short": "fewer than two turns remain without a leading gpt and a trailing human one",
    "not_alternating": "the turns are not human, gpt, human, gpt …",
    "failed": "the converter failed on it, or took too long",
    "empty_answer": "an answer holds no text",
    "blocked_word": "a text says a blocked word",
    "duplicate": "an earlier conversation has the same roles and texts",
    "near_duplicate": "an earlier conversation is nearly the same (only with --near-dup)",
}


class RejectError(Exception):
    """A candidate is left out: `reason` is a key of REASONS, `where` a place inside the source.

    `word` is the blocked word that it says; `id` the conversation's, where that much could be read.
    """

    def __init__(
        self, reason: str, detail: str = "", where: str = "", word: str | None = None
    ) -> None:
        super().__init__(reason, detail, where, word)
        self.reason, self.detail, self.where, self.word = reason, detail, where, word
        self.id: str | None = None


class Turn(NamedTuple):
    """One message: the source's own role name and text."""

    role: str
    text: str
    form: Form
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A conversation as its source has it; `noisy` texts may hold words of the page around them."""

    id: str | None
    model: object
    turns: tuple[Turn, ...]
    noisy: bool = False
    language: str | None = None
    condition: str | None = None
    weight: float = 1.0
