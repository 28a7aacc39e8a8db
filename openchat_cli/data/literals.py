"""Where literal text needs a backslash so that a reader of Markdown shows it as it stands.

A block's whole text is looked at, once all of it is there: whether a character means something
depends on its neighbours. Rules and names are CommonMark 0.31's, plus GitHub's strikethrough; what
is done for each kind of character takes one pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from html.entities import html5
from itertools import pairwise

from openchat_cli.data import brackets, delimiters
from openchat_cli.data.brackets import Link
from openchat_cli.data.delimiters import Segment
from openchat_cli.data.flanking import PUNCTUATION

Range = tuple[int, int]

# What has a meaning inside a line, runs of one delimiter as a whole.
_SPECIAL = re.compile(r"[\\&<`*_~](?:(?<=`)`*+|(?<=\*)\**+|(?<=_)_*+|(?<=~)~*+)?+")
_TICKS = re.compile(r"`+")
_DOLLAR = re.compile(r"\$")
ENTITY = re.compile(r"&(?:#[xX][0-9a-fA-F]{1,6}|#[0-9]{1,7}|([A-Za-z][A-Za-z0-9]{1,31}));")
_ATTRIBUTE = r"\s++[A-Za-z_:][\w.:-]*+(?:\s*+=\s*+(?:[^\s\"'=<>`]++|'[^']*+'|\"[^\"]*+\"))?+"
_HTML = re.compile(
    rf"<(?:[A-Za-z][A-Za-z0-9-]*+(?:{_ATTRIBUTE})*+\s*+/?>|/[A-Za-z][A-Za-z0-9-]*+\s*+>"
    r"|(?P<until>!--|\?|![A-Za-z]|!\[CDATA\[)"
    r"|[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+>|[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9.-]+>)",
    re.A,
)
# What ends the rarer kinds of HTML; without it they are text inside a line.
_ENDS = {"!--": "-->", "?": "?>", "![CDATA[": "]]>"}
_BLOCK_NAMES = (
    "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|"
    "dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|"
    "hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|"
    "search|section|source|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul"
)
_BLOCK_HTML = re.compile(
    rf"<(?:(?:script|pre|style|textarea)(?=[\s>]|\Z)|!--|\?|![A-Za-z]|!\[CDATA\["
    rf"|/?(?:{_BLOCK_NAMES})(?=\s|/?>|\Z))",
    re.I,
)
_FENCE = re.compile(r"`{3,}+(?=[^`\n]*(?:\n|\Z))")
_LONGEST_SPLIT = 32  # ticks in a run for which the one best place of a backslash is looked for


@dataclass(slots=True)
class Scene:
    """What a block's text holds beside its literal ranges, by place."""

    emphasis: Sequence[Range] = ()  # delimiters that are meant
    links: Sequence[Link] = ()
    formulas: Sequence[Range] = ()
    dollars: Sequence[Range] = ()  # literal ranges that have some
    brackets: Sequence[Range] = ()  # literal ranges that have some
    in_flow: bool = True  # a paragraph, where a line can begin another block


def escapes(text: str, literal: Sequence[Range], scene: Scene) -> set[int]:
    """The places in `text` that need a backslash for its literal ranges to read as they stand."""
    found: set[int] = set()
    runs: list[Range] = []
    ticks: list[Range] = []
    tags: list[Range] = []
    for start, end in literal:
        for match in _SPECIAL.finditer(text, start, end):
            char = match[0][0]
            if char in "*_~":
                if runs and runs[-1][1] == match.start() and text[runs[-1][0]] == char:
                    runs[-1] = (runs[-1][0], match.end())  # where one range ends and one begins
                else:
                    runs.append(match.span())
            elif char == "`":
                ticks.append(match.span())
            elif char == "<":
                tags.append(match.span())
            elif is_misread(text, match.start()):
                found.add(match.start())
    if scene.brackets or scene.links:
        found |= brackets.escapes(text, scene.brackets, scene.links)
    if ticks:
        found |= _ticks(text, ticks, in_flow=scene.in_flow)
    if scene.dollars and scene.formulas:
        found |= _dollars(text, scene.dollars, scene.formulas)
    if runs and (len(runs) > 1 or scene.emphasis):
        found |= _delimiters(text, runs, scene)
    return found | _tags(text, tags, found, in_flow=scene.in_flow) if tags else found


def is_misread(text: str, at: int) -> bool:
    """Whether the back-slash or `&` at that place means something there."""
    if text[at] == "\\":
        follower = text[at + 1 : at + 2]
        return follower in PUNCTUATION or follower == "\n"
    entity = ENTITY.match(text, at)
    return entity is not None and (entity[1] is None or f"{entity[1]};" in html5)


def is_tag(text: str, at: int) -> bool:
    """Whether the `<` at that place begins HTML or an address inside a line, as far as is known."""
    return _HTML.match(text, at) is not None


def begins_block(text: str, at: int) -> bool:
    """Whether the `<` at that place, the first of a line, begins a block of HTML."""
    return _BLOCK_HTML.match(text, at) is not None


def _tags(text: str, tags: Sequence[Range], others: Set[int], *, in_flow: bool) -> set[int]:
    """The `<` that begin HTML or an address once the `others` have their backslashes."""
    found: set[int] = set()
    last: dict[str, int] = {}
    for at, _ in tags:
        if in_flow and (at == 0 or text[at - 1] == "\n") and begins_block(text, at):
            found.add(at)
            continue
        match = _HTML.match(text, at)
        if match is None:
            continue
        if kind := match["until"]:
            closing = _ENDS.get(kind, ">")
            if closing not in last:
                last[closing] = text.rfind(closing)
            if last[closing] > at:
                found.add(at)
        elif others.isdisjoint(range(at, match.end())) or _HTML.match(
            with_backslashes(match[0], {place - at for place in others if place >= at})
        ):
            found.add(at)
    return found


def _ticks(text: str, literal: list[Range], *, in_flow: bool) -> set[int]:
    """Runs of back-ticks that a later run of the same length, or a neighbour, would pair with."""
    found: set[int] = set()
    later: set[int] = set()
    waiting = list(literal)
    for run in reversed(list(_TICKS.finditer(text))):
        start, end = run.span()
        length = end - start
        if waiting and waiting[-1] == (start, end):
            waiting.pop()
            if length == 1:  # the usual case
                if length in later:
                    found.add(start)
                later.add(length)
                continue
            at_start = in_flow and (start == 0 or text[start - 1] == "\n")
            fence = length > 2 and at_start and _FENCE.match(text, start) is not None
            if fence or length in later:
                kept = _split(length, later, at_start=fence)
                found.update(start + place for place in range(length) if place not in kept)
                later.update(_seen(length, kept))
            else:
                later.add(length)
            continue
        # The run is markup, or markup that touches literal back-ticks.
        while waiting and waiting[-1][0] >= start:
            first, stop = waiting.pop()
            found.update(range(first, stop))
            length -= stop - first
            # An escaped run is single back-ticks to a code span that is already open.
            later.add(1)
        later.add(length)
    return found


def _split(length: int, later: Set[int], *, at_start: bool) -> Set[int]:
    """Which back-ticks of a run can do without a backslash, the least number being escaped."""
    for place in range(1 if at_start else min(length, _LONGEST_SPLIT)):
        rest = length - place - 1
        if place not in later and rest not in later and place != rest + 1:
            return set(range(length)).difference((place,))
    rest = length - 1
    while rest in later:
        rest -= 1
    return set(range(length - rest, length))


def _seen(length: int, kept: Set[int]) -> set[int]:
    """The lengths of what backslashes leave of a run, to a code span that is already open."""
    cuts = [place for place in range(length) if place not in kept]
    edges = [0, *cuts, length]
    return {after - before for before, after in pairwise(edges)} - {0}


def _dollars(text: str, ranges: Sequence[Range], formulas: Sequence[Range]) -> set[int]:
    """Dollars that a reader with formulas would take for one's beginning, before the last one.

    The rule is pandoc's: no white space right after the first dollar, none right before the second,
    and no digit after it.
    """
    last = formulas[-1][0]
    literal = [match.start() for place in ranges for match in _DOLLAR.finditer(text, *place)]
    closes: dict[int, bool] = {}  # by place of a dollar: whether what was opened before ends there
    marks = sorted([*literal, *(start for start, _ in formulas)])
    ends_next = False
    for at in reversed(marks):
        if text[at - 1 : at].isspace():
            ends_next = False
        elif not text[at + 1 : at + 2].isdigit():
            ends_next = True
        closes[at] = ends_next
    plain = set(literal)
    found: set[int] = set()
    for at, after in pairwise(marks):
        if at < last and at in plain and not text[at + 1].isspace() and closes[after]:
            found.add(at)
    return found


def _delimiters(text: str, runs: Sequence[Range], scene: Scene) -> set[int]:
    """Literal `*`, `_` and `~~` that would be paired, outside of links and in the text of each."""
    segments = [(start, end, True) for start, end in runs]
    if scene.emphasis:
        segments += [(start, end, False) for start, end in scene.emphasis]
        segments.sort()
    found: set[int] = set()
    at = 0
    outside: list[Segment] = []
    for opening, closing, _ in scene.links:
        while at < len(segments) and segments[at][0] < opening:
            outside.append(segments[at])
            at += 1
        first = at
        while at < len(segments) and segments[at][0] < closing:
            at += 1
        if first < at:
            # To some readers a link's text ends as a block does: with white space, not a bracket.
            found |= delimiters.escapes(text, segments[first:at], [closing])
    outside += segments[at:]
    return found | delimiters.escapes(text, outside, ()) if outside else found


def with_backslashes(text: str, places: Set[int]) -> str:
    """`text` with a backslash before each place."""
    if not places:
        return text
    if len(places) == 1:
        (place,) = places
        return f"{text[:place]}\\{text[place:]}"
    cuts = sorted(places)
    return "\\".join([text[start:end] for start, end in pairwise([0, *cuts, len(text)])])
