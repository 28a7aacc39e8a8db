"""Marks as they are written (code spans, fences, targets), and what may not begin a line.

Rules and names are CommonMark 0.31's (thematic breaks, link definitions), plus tables as GitHub has
them. Every function is linear in its text.
"""

from __future__ import annotations

import re
from collections.abc import Set

from openchat_cli.data.brackets import Link
from openchat_cli.data.literals import ENTITY, Scene, escapes, with_backslashes

_TICKS = re.compile(r"`+")
_UNFINISHED = re.compile(r"`|<(?=[A-Za-z/!?])")
_DULL = re.compile(r"[^\\&<`*_~\[\]]*+")  # text in which nothing can mean anything
# A target that stands as it is.
_PLAIN_TARGET = re.compile(r"[!#-%'*-;=?-\[\]-~]++")
# What has a meaning at the start of a line, once the line's own indentation is gone.
_LINE_START = re.compile(
    r"^(?:(?P<item>\d{1,9}+)[.)](?=[ \t]|$)"
    r"|(?P<underline>=++[ \t]*+$|(?=[^\n]*[|:])\|?+(?:[ \t]*+:?+-++:?+[ \t]*+\|?+)++$)"
    r"|(?P<definition>\A(?=\[(?!\s*+\])[^\[\]\n]++\]:[ \t]*+\n?+[ \t]*+(?:<[^<>\n]*+>|[^ \t\n]++)"
    r"[ \t]*+(?:\n|\Z|[\"'(]))\[)"
    r"|(?P<empty>[+*][ \t]*+$)"
    r"|(?P<other>\#{1,6}+(?=[ \t]|$)|>|[-+*](?=[ \t]|$)|-[ \t]*+(?:-[ \t]*+)++$"
    r"|\*[ \t]*+(?:\*[ \t]*+){2,}+$|_[ \t]*+(?:_[ \t]*+){2,}+$|~{3,}+))",
    re.M,
)
_LINE_RISKS = frozenset("0123456789=|:[#>+*_~-")
# How a line begins that begins with emphasis.
_STRESSED = re.compile(r"[*_]{1,3}+[^\s*_]")
_LINE_RISK = re.compile(r"\n[0-9=|:\[#>+*_`~-]")
_WORDS = re.compile(r"[ \t]+[^ \t\n]")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t])(#+)$")

_DEEPEST_PARENTHESES = 32  # readers may stop there


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
    if not title and _PLAIN_TARGET.fullmatch(url):
        return url
    plain = bool(url) and not re.search(r"[\s<>\\]", url) and url.isprintable()
    plain = plain and _pairs(url)
    if not plain:
        url = url.replace("\\", "\\\\").replace("<", "\\<").replace(">", "\\>")
        url = "<" + url.replace("\n", "%0A").replace("\r", "") + ">"
    if ENTITY.search(url):
        url = url.replace("&", "&amp;")
    if not title:
        return url
    title = " ".join(title.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'{url} "{title}"'


def description(text: str) -> str:
    """What stands in an image's square brackets."""
    if _DULL.fullmatch(text):
        return text
    whole = f"![{text}](u)"
    inside = [(2, 2 + len(text))]
    scene = Scene(links=[Link(1, 2 + len(text), len(whole))], brackets=inside, in_flow=False)
    places = {place - 2 for place in escapes(whole, inside, scene)} - {-2}
    # Code and HTML bind tighter than brackets: what follows the image could complete them.
    places |= {match.start() for match in _UNFINISHED.finditer(text)}
    return with_backslashes(text, places)


def is_plain_start(text: str) -> bool:
    """Whether no line of a paragraph can be read as the start of another block."""
    return text[:1] not in _LINE_RISKS and ("\n" not in text or not _LINE_RISK.search(text))


def line_starts(text: str, places: Set[int]) -> set[int]:
    """Where a line of a paragraph would be read as the start of another block.

    `places` have their backslash already.
    """
    found: set[int] = set()
    one_line = "\n" not in text
    if is_plain_start(text) or (one_line and _STRESSED.match(text)):
        return found
    matches = [_LINE_START.match(text)] if one_line else _LINE_START.finditer(text)
    for match in filter(None, matches):
        start = match.start()
        if match["item"] is not None:
            # Only a list that starts with 1, and with words, can interrupt a paragraph.
            if start == 0 or (int(match["item"]) == 1 and _WORDS.match(text, match.end())):
                found.add(match.end("item"))
        elif match["underline"] is not None:
            if start and (match[0][0] == "=" or _is_head(text, start, match[0])):
                found.add(start)
        elif match["empty"] is not None:
            if not start and start not in places:  # an empty item can't interrupt a paragraph
                found.add(start)
        elif match["definition"] is not None:
            found.add(start)
        elif match[0][0] == "~":
            if places.isdisjoint(range(start, start + 3)):
                # What is left of the run must not pair with a later one.
                found.update(range(start + len(match[0]) % 2, match.end(), 2))
        elif places.isdisjoint(range(start, match.end())):
            found.add(start)
    return found


def _is_head(text: str, at: int, rule: str) -> bool:
    """Whether the line before that place has as many cells as the table's rule there."""
    head = text[text.rfind("\n", 0, at - 1) + 1 : at - 1].strip(" \t")
    return "\\" in head or _cells(head) == _cells(rule.strip(" \t"))


def _cells(row: str) -> int:
    return row.removeprefix("|").removesuffix("|").count("|") + 1


def closing_hashes(text: str) -> set[int]:
    """Where a heading's own last `#` would be taken for its closing sequence."""
    match = _CLOSING_HASHES.search(text)
    return {match.start(1)} if match else set()
