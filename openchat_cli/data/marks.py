"""What Markdown would read into plain text, and the fewest backslashes that stop it.

Rules and names are CommonMark 0.31's (flanking runs, thematic breaks, link definitions), plus
strikethrough and tables as GitHub has them. Every function is linear in its text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence, Set
from functools import lru_cache
from html.entities import html5

_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_TICKS = re.compile(r"`+")
# What has a meaning inside a line. A run of tildes needs two; the rest is looked at one by one.
_SPECIAL = re.compile(r"[\\&<$]|`+|\*+|_+|~~+|\]\(")
_ENTITY = re.compile(r"&(?:#[xX][0-9a-fA-F]{1,6}|#[0-9]{1,7}|([A-Za-z][A-Za-z0-9]{1,31}));")
_LINK_TAIL = re.compile(
    r"\]\(\s*+(?:<[^<>\n]*+>|(?!<)(?:[^\s()\\]|\\.|\([^\s()]*+\))*+)"
    r"(?:\s++(?:\"[^\"]*+\"|'[^']*+'|\([^()]*+\)))?+\s*+\)"
)
_ATTRIBUTE = r"\s++[A-Za-z_:][\w.:-]*+(?:\s*+=\s*+(?:[^\s\"'=<>`]++|'[^']*+'|\"[^\"]*+\"))?+"
_HTML = re.compile(
    rf"<(?:[A-Za-z][A-Za-z0-9-]*+(?:{_ATTRIBUTE})*+\s*+/?>|/[A-Za-z][A-Za-z0-9-]*+\s*+>"
    r"|!--|\?|![A-Za-z]|!\[CDATA\["
    r"|[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+>|[\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]+>)"
)
_BRACKET = re.compile(r"[\[\]]")
_UNFINISHED = re.compile(r"`|<(?=[A-Za-z/!?])")
_HTML_LINE = re.compile(r"<[A-Za-z/!?]")
# What has a meaning at the start of a line, once the line's own indentation is gone.
_LINE_START = re.compile(
    r"^(?:(?P<item>\d{1,9}+)[.)](?=[ \t]|$)"
    r"|(?P<underline>=++[ \t]*+$|(?=[^\n]*[|:])\|?+(?:[ \t]*+:?+-++:?+[ \t]*+\|?+)++$)"
    r"|(?P<definition>\A(?=\[[^\[\]\n]++\]:[ \t]*+\n?+[ \t]*+(?:<[^<>\n]*+>|[^ \t\n]++)"
    r"[ \t]*+(?:\n|\Z|[\"'(]))\[)"
    r"|(?P<other>\#{1,6}+(?=[ \t]|$)|>|[-+*](?=[ \t]|$)|-[ \t]*+(?:-[ \t]*+)++$"
    r"|\*[ \t]*+(?:\*[ \t]*+){2,}+$|_[ \t]*+(?:_[ \t]*+){2,}+$|`{3,}+(?=[^`\n]*$)|~{3,}+))",
    re.M,
)
_LINE_RISKS = frozenset("0123456789=|:[#>+*_`~-")
_LINE_RISK = re.compile(r"\n[0-9=|:\[#>+*_`~-]")
_WORDS = re.compile(r"[ \t]+[^ \t\n]")
_FENCE = re.compile(r"^`{3,}+(?=[^`\n]*$)", re.M)
_CLOSING_HASHES = re.compile(r"(?:^|[ \t])(#+)$")

_DEEPEST_PARENTHESES = 32  # readers may stop there

Range = tuple[int, int]


def is_space(char: str) -> bool:
    """Unicode white space, or the edge of the block (an empty string)."""
    return not char or char.isspace()


def is_punctuation(char: str) -> bool:
    """ASCII punctuation, or Unicode's classes P and S."""
    if char.isascii():
        return char in _PUNCTUATION
    return unicodedata.category(char)[0] in "PS"


@lru_cache(maxsize=8192)
def flanking(before: str, after: str) -> tuple[bool, bool]:
    """Whether a run of delimiters between these characters can open, and can close, emphasis.

    CommonMark's left- and right-flanking; "" is the edge of the block.
    """
    space_before, space_after = is_space(before), is_space(after)
    dull_before = not space_before and is_punctuation(before)
    dull_after = not space_after and is_punctuation(after)
    left = not space_after and (not dull_after or space_before or dull_before)
    right = not space_before and (not dull_before or space_after or dull_after)
    return left, right


@lru_cache(maxsize=8192)
def flanking_underscore(before: str, after: str) -> tuple[bool, bool]:
    """The same for `_`, which means nothing inside a word unless punctuation is beside it."""
    left, right = flanking(before, after)
    if left and right:
        return is_punctuation(before), is_punctuation(after)
    return left, right


def fence_for(code: str) -> str:
    """A fence longer than any run of back-ticks inside."""
    longest = max(map(len, _TICKS.findall(code)), default=0) if "```" in code else 0
    return "`" * max(3, longest + 1)


def code_span(text: str) -> str:
    """Inline code that reads back as `text`; a line break inside becomes a space."""
    text = text.replace("\n", " ")
    if not text:
        return ""
    ticks = "`"
    if "`" in text:
        taken = set(map(len, _TICKS.findall(text)))
        while len(ticks) in taken:
            ticks += "`"
    padded = text[0] == text[-1] == " " and not text.isspace()
    pad = " " if padded or text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _pairs(url: str) -> bool:
    """Whether its parentheses are balanced, as they must be in a bare target."""
    if "(" not in url and ")" not in url:
        return True
    depth = deepest = 0
    for char in url:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
        if depth < 0:
            return False
    return depth == 0 and deepest < _DEEPEST_PARENTHESES


def link_target(url: str, title: str) -> str:
    """What stands in a link's parentheses."""
    plain = bool(url) and not re.search(r"[\s<>\\]", url) and url.isprintable()
    plain = plain and _pairs(url)
    if not plain:
        url = url.replace("\\", "\\\\").replace("<", "\\<").replace(">", "\\>")
        url = "<" + url.replace("\n", "%0A").replace("\r", "") + ">"
    if _ENTITY.search(url):
        url = url.replace("&", "&amp;")
    if not title:
        return url
    title = " ".join(title.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'{url} "{title}"'


def escapes(text: str, literal: Sequence[Range], used: Set[str], formula: int = 0) -> set[int]:
    """Where in `text` a backslash must go so that its literal ranges read as they stand.

    `used` holds the delimiters of the block's own emphasis; `formula` is where its last formula
    ends: a dollar before that could be taken for one of a formula's.
    """
    found: set[int] = set()
    runs: dict[str, list[re.Match[str]]] = {}
    for start, end in literal:
        if text[end - 1] == "!" and text[end : end + 1] == "[":
            found.add(end - 1)
        for match in _SPECIAL.finditer(text, start, end):
            char = match[0][0]
            if char in "*_~`":
                runs.setdefault(char, []).append(match)
            elif char == "$":
                if match.start() < formula:
                    found.add(match.start())
            elif is_misread(text, match.start()):
                found.add(match.start())
    for char, matches in runs.items():
        if char == "`":
            found |= _ticks(text, matches)
        else:
            found |= _delimiters(text, matches, mixed=char in used)
    return found


def unpaired(text: str, ranges: Sequence[Range], places: Set[int]) -> set[int]:
    """Square brackets in the text of one link that have no partner there.

    Those at `places` have their backslash and are none.
    """
    found: set[int] = set()
    opened: list[int] = []
    for start, end in ranges:
        for match in _BRACKET.finditer(text, start, end):
            at = match.start()
            if at in places:
                continue
            if match[0] == "[":
                opened.append(at)
            elif opened:
                opened.pop()
            else:
                found.add(at)
    return found.union(opened)


def description(text: str) -> str:
    """What stands in an image's square brackets."""
    places = escapes(f"{text}]", [(0, len(text))] if text else [], frozenset())
    # Code and HTML bind tighter than brackets: what follows the image could complete them.
    places |= {match.start() for match in _UNFINISHED.finditer(text)}
    return with_backslashes(text, places | unpaired(text, [(0, len(text))], places))


def is_misread(text: str, at: int) -> bool:
    """Whether the back-slash, `&`, `<` or `](` at that place means something there."""
    char = text[at]
    if char == "\\":
        follower = text[at + 1 : at + 2]
        return follower in _PUNCTUATION or follower == "\n"
    if char == "&":
        entity = _ENTITY.match(text, at)
        return entity is not None and (entity[1] is None or f"{entity[1]};" in html5)
    if char == "<":
        at_line_start = at == 0 or text[at - 1] == "\n"
        return (_HTML_LINE if at_line_start else _HTML).match(text, at) is not None
    return _LINK_TAIL.match(text, at) is not None


def _ticks(text: str, literal: list[re.Match[str]]) -> set[int]:
    """Runs of back-ticks that a later run of the same length, or a neighbour, would pair with."""
    found: set[int] = set()
    later: set[int] = set()
    waiting = list(literal)
    for run in reversed(list(_TICKS.finditer(text))):
        length = run.end() - run.start()
        if waiting and waiting[-1].span() == run.span():
            waiting.pop()
            if length in later or (length > 2 and _FENCE.match(text, run.start())):
                found.update(range(run.start(), run.end()))
                later.add(1)
            else:
                later.add(length)
            continue
        # The run is markup, or markup that touches literal back-ticks.
        while waiting and waiting[-1].start() >= run.start():
            match = waiting.pop()
            found.update(range(match.start(), match.end()))
            length -= match.end() - match.start()
            # An escaped run is single back-ticks to a code span that is already open.
            later.add(1)
        later.add(length)
    return found


def _delimiters(text: str, runs: list[re.Match[str]], *, mixed: bool) -> set[int]:
    """Runs of `*`, `_` or `~` that can open with a later one to close; all that can, if `mixed`."""
    found: set[int] = set()
    closer_follows = False
    for run in reversed(runs):
        before, after = text[run.start() - 1 : run.start()], text[run.end() : run.end() + 1]
        can = flanking_underscore if run[0][0] == "_" else flanking
        left, right = can(before, after)
        if (left and closer_follows) or (mixed and (left or right)):
            found.update(range(run.start(), run.end()))
        closer_follows = closer_follows or right
    return found


def is_plain_start(text: str) -> bool:
    """Whether no line of a paragraph can be read as the start of another block."""
    return text[:1] not in _LINE_RISKS and ("\n" not in text or not _LINE_RISK.search(text))


def line_starts(text: str, places: Set[int]) -> set[int]:
    """Where a line of a paragraph would be read as the start of another block.

    `places` have their backslash already.
    """
    found: set[int] = set()
    if is_plain_start(text):
        return found
    for match in _LINE_START.finditer(text):
        start = match.start()
        if match["item"] is not None:
            # Only a list that starts with 1, and with words, can interrupt a paragraph.
            if start == 0 or (int(match["item"]) == 1 and _WORDS.match(text, match.end())):
                found.add(match.end("item"))
        elif match["underline"] is not None:
            if start:
                found.add(start)
        elif match["definition"] is not None:
            found.add(start)
        elif match[0][0] == "`" or (
            match[0][0] == "~" and places.isdisjoint(range(start, start + 3))
        ):
            # What is left of the run must not pair with a later one.
            found |= set(range(start, match.end()))
        elif match[0][0] != "~" and places.isdisjoint(range(start, match.end())):
            found.add(start)
    return found


def closing_hashes(text: str) -> set[int]:
    """Where a heading's own last `#` would be taken for its closing sequence."""
    match = _CLOSING_HASHES.search(text)
    return {match.start(1)} if match else set()


def with_backslashes(text: str, places: Set[int]) -> str:
    """`text` with a backslash before each place."""
    if not places:
        return text
    parts: list[str] = []
    begin = 0
    for place in sorted(places):
        parts += (text[begin:place], "\\")
        begin = place
    parts.append(text[begin:])
    return "".join(parts)
