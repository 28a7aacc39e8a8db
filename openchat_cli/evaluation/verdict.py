"""Reading a judge's verdict out of its text: two scores, one rating, or a choice.

Attempts are made in the order of a table, from the most explicit form to the loosest, and the first
that finds scores within the range wins. What can't be read is None: a score is never made up. Two
numbers in the middle of a text count only when they are named as scores, since reviews of
mathematics are full of coordinates, ranges and equations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from openchat_cli.evaluation import verdict_words as words
from openchat_cli.evaluation.verdict_tables import table_pairs

LOWEST, HIGHEST = 0.0, 10.0

Pair = tuple[float, float]
Choice = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of the first and the second answer shown, and the attempt that found them."""

    first: float
    second: float
    how: str


def read_scores(text: str, lowest: float = LOWEST, highest: float = HIGHEST) -> Scores | None:
    """The two scores of a pairwise review, in the order in which the answers were shown."""
    review = _Review.of(text)
    if not review.lines:
        return None
    for how, attempt in _ATTEMPTS:
        for first, second in attempt(review):
            if lowest <= first <= highest and lowest <= second <= highest:
                return Scores(first, second, how)
            if attempt in _FINAL:
                return None  # scores on another scale: a looser reading would only guess
        if attempt is _json_pairs and review.raw.lstrip().startswith("{"):
            return None  # JSON cut off or without scores: what its texts say is no verdict
    return None


def read_rating(text: str, lowest: float = LOWEST, highest: float = HIGHEST) -> float | None:
    """The rating of a single-answer review ("Rating: [[7]]", {"rating": 7}, "7/10")."""
    review = _Review.of(text)
    found = next(_ratings(review), None)
    return found if found is not None and lowest <= found <= highest else None


def read_choice(text: str) -> Choice | None:
    """The choice of a pairwise review without scores ([[A]], [[B]], [[C]], [[A>>B]], [[A=B]])."""
    found = re.findall(r"\[\[\s*(A(?:>{1,2}B|=B)?|B(?:>{1,2}A)?|C|tie)\s*\]\]", text, re.IGNORECASE)
    if not found:
        return None
    last = found[-1].upper()
    if last in ("C", "A=B", "TIE"):
        return "tie"
    return "first" if last[0] == "A" else "second"


# --- the text ---

_FULL_WIDTH = str.maketrans(
    "０１２３４５６７８９［］（）：，、／．｜；－＝", "0123456789[]():,,/.|;-="
)
_LONG = 40_000  # characters: of a text over twice that, only the two ends are read
_TAIL = 3  # lines at the end where a bare pair may stand


@dataclass(frozen=True, slots=True)
class _Review:
    """A review as it came, and its lines with text, free of Markdown's emphasis."""

    raw: str
    lines: list[str]

    @classmethod
    def of(cls, text: str) -> _Review:
        if len(text) > 2 * _LONG:
            text = f"{text[:_LONG]}\n{text[-_LONG:]}"
        # What a reasoning model thinks aloud is not its verdict.
        raw = re.sub(r"\A\s*<think>.*?</think>", "", text, flags=re.DOTALL).translate(_FULL_WIDTH)
        clean = re.sub(
            r"```\w*$|[*`]{1,3}|(?<!\w)_{1,3}|_{1,3}(?!\w)|^\s*#+\s", "", raw, flags=re.MULTILINE
        )
        return cls(raw, [line.strip() for line in clean.splitlines() if line.strip()])

    @property
    def edges(self) -> list[str]:
        """The first line, and the last few with the very last one first."""
        return [self.lines[0], *self.lines[: -_TAIL - 1 : -1]]


# --- JSON ---


def _json_pairs(review: _Review) -> Iterator[Pair]:
    """{"assistant_1_score": 8, …}, {"scores": [8, 9]}, or [8, 9] where that is the whole text."""
    for value in _json_values(review.raw):
        pair = _pair_of(value)
        if pair is not None:
            yield pair


def _json_values(text: str) -> Iterator[Any]:
    """The text, or its last fence, as one JSON value; then each object in it, from the end."""
    fences = re.findall(r"```(?:json)?\s*\n(.*?)```\s*\Z", text, re.DOTALL)
    for whole in (text, *fences):
        try:
            yield json.loads(whole)
        except (ValueError, RecursionError):
            continue
    decoder = json.JSONDecoder()
    starts = [found.start() for found in re.finditer(r"\{", text)]
    for start in starts[:-50:-1]:
        try:
            yield decoder.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue


def _pair_of(value: Any) -> Pair | None:
    if isinstance(value, list) and len(value) == 2:
        first, second = _number(value[0]), _number(value[1])
        return None if first is None or second is None else (first, second)
    if not isinstance(value, dict):
        return None
    by_side = {words.side_of(str(key)): item for key, item in value.items()}
    for one, other in (("1", "2"), ("a", "b")):
        if one in by_side and other in by_side:
            return _pair_of([by_side[one], by_side[other]])
    return _pair_of(by_side.get("both"))


def _number(value: Any) -> float | None:
    """A number as JSON may hold it: 8, "8", "8/10", {"score": 8}."""
    if isinstance(value, dict):
        return _number(value.get("score", value.get("rating")))
    if isinstance(value, str):
        found = words.GRADE.fullmatch(value.strip())
        return words.to_float(found["grade"]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


# --- pairs on one line ---


def _double_brackets(review: _Review) -> Iterator[Pair]:
    """[[8, 9]] on a line of its own at an edge, at the very end, or where scores are spoken of."""
    lines = [line for line in review.edges if words.BARE_DOUBLE.fullmatch(line)]
    if review.lines[-1].rstrip(" .").endswith("]]"):
        lines.insert(0, review.lines[-1])
    for line in [*lines, *filter(words.SCORE.search, reversed(review.lines))]:
        yield from _pairs(words.DOUBLE_BRACKETS, line)


def _pair_lines(review: _Review) -> Iterator[Pair]:
    """A line that is nothing but two numbers, at an edge; with "Scores:" before them, anywhere."""
    edges = review.edges
    for line in [*edges, *reversed(review.lines)]:
        found = next(filter(None, (pattern.match(line) for pattern in words.PAIR_LINES)), None)
        if found and _names_scores(found["lead"] or "", at_edge=line in edges):
            yield words.to_float(found["first"]), words.to_float(found["second"])


def _names_scores(lead: str, *, at_edge: bool) -> bool:
    """Whether what stands before two numbers makes them a verdict."""
    if _of_one(lead):
        return False
    if words.SCORE.search(lead):
        return True
    return at_edge and (not lead or bool(words.RESULT.search(lead)))


def _of_one(lead: str) -> bool:
    """Whether "Score of Assistant 1: 8,5" names one of the two: then that is one number."""
    return bool(words.FIRST.search(lead)) != bool(words.SECOND.search(lead))


def _last_line_tuple(review: _Review) -> Iterator[Pair]:
    """ "The final scores are (6, 8)." as the last line, or little more than the tuple."""
    return _lone_tuple(review.lines[-1])


def _edge_tuple(review: _Review) -> Iterator[Pair]:
    for line in review.edges:
        yield from _lone_tuple(line)


def _lone_tuple(line: str) -> Iterator[Pair]:
    found = list(_pairs(words.TUPLE, line))
    if len(found) == 1 and (words.RESULT.search(line) or words.BARE_TUPLE.fullmatch(line)):
        yield found[0]


def _pairs(pattern: re.Pattern[str], text: str) -> Iterator[Pair]:
    for found in pattern.finditer(text):
        yield words.to_float(found["first"]), words.to_float(found["second"])


# --- scores with names ---


def _tables(review: _Review) -> Iterator[Pair]:
    return table_pairs(review.lines)


def _labelled(review: _Review) -> Iterator[Pair]:
    """ "Assistant 1: 8 … Assistant 2: 9": the last of each."""
    return _last_of_each("\n".join(review.lines), words.LABELLED)


def _under_headings(review: _Review) -> Iterator[Pair]:
    """ "Assistant 1" as a heading, "Score: 8/10" in the lines below it, and so for the second."""
    grades: dict[str, str] = {}
    section = ""
    for line in review.lines:
        if words.FIRST_HEADING.fullmatch(line):
            section = "first"
        elif words.SECOND_HEADING.fullmatch(line):
            section = "second"
        elif section and (found := words.OWN_SCORE.fullmatch(line)):
            grades[section] = found["grade"]
    if len(grades) == 2:
        yield words.to_float(grades["first"]), words.to_float(grades["second"])


def _score_of(review: _Review) -> Iterator[Pair]:
    """Whole sentences: "I would give Assistant 1 a score of 8 and Assistant 2 a score of 9"."""
    text = "\n".join(review.lines)
    for pattern in words.TOGETHER:
        yield from reversed(list(_pairs(pattern, text)))
    for each in (words.SCORE_OF, words.NUMBERED, words.GIVEN, words.RATED):
        yield from _last_of_each(text, each)


def _both(review: _Review) -> Iterator[Pair]:
    """ "both assistants receive a score of 9"."""
    for found in reversed(list(words.BOTH.finditer("\n".join(review.lines)))):
        yield words.to_float(found["grade"]), words.to_float(found["grade"])


def _last_of_each(text: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[Pair]:
    found = [list(pattern.finditer(text)) for pattern in patterns]
    if found[0] and found[1]:
        yield words.to_float(found[0][-1]["grade"]), words.to_float(found[1][-1]["grade"])


_ATTEMPTS: tuple[tuple[str, Callable[[_Review], Iterator[Pair]]], ...] = (
    ("JSON", _json_pairs),
    ("[[a, b]]", _double_brackets),
    ("a line that is a pair", _pair_lines),
    ("a tuple on the last line", _last_line_tuple),
    ("a table", _tables),
    ("labelled", _labelled),
    ("under headings", _under_headings),
    ("score of", _score_of),
    ("both", _both),
    ("a tuple at an edge", _edge_tuple),
)
_FINAL = (_json_pairs, _double_brackets)


# --- one rating ---


def _ratings(review: _Review) -> Iterator[float]:
    for value in _json_values(review.raw):
        rating = _number(value) if isinstance(value, dict) else None
        if rating is not None:
            yield rating
    text = "\n".join(review.lines)
    for pattern in words.RATINGS:
        for found in reversed(list(pattern.finditer(text))):
            yield words.to_float(found["grade"])
