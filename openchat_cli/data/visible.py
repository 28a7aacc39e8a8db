"""What a reader sees of a message: where blocked words are looked for, and whether it is empty.

Link targets, picture addresses and attributes are not text, but a picture's description is: it
becomes text of the Markdown. Each function takes one pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape, unescape

from openchat_cli.data.dom import TAG, attribute, decode, name_of, without_comments

_HIDDEN = {"button", "svg", "style", "script", "noscript", "template", "title"}
# Tags inside a word do not part it; all others do.
_INLINE = {
    *("a", "abbr", "b", "big", "code", "del", "em", "font", "i", "ins", "kbd", "mark", "s", "samp"),
    *("small", "span", "strike", "strong", "sub", "sup", "u", "var", "wbr"),
}

# What can part a word's ASCII letters in HTML in lower case: inline tags between two letters, a
# comment, or a reference to a character that is none of the four that browsers write. Either
# pattern begins with one character, for which a text is looked through at once.
_NAME = rf"/?(?:{'|'.join(sorted(_INLINE))})(?![a-z0-9])"
_INLINE_TAG = (
    rf"{_NAME}"
    r"[^<>\"']*+(?:\"[^\"]*+\"[^<>\"']*+|'[^']*+'[^<>\"']*+)*+>"
)
_PARTED = re.compile(rf"<(?:!--|(?<=\w<){_INLINE_TAG}(?:<{_INLINE_TAG})*+(?=\w))", re.ASCII)
# The same where nothing is quoted, so that no tag can begin in another one's attribute.
_BARELY_PARTED = re.compile(
    rf"<(?<=\w<){_NAME}[^<>\"']*+>(?:<{_NAME}[^<>\"']*+>)*+(?=\w)", re.ASCII
)
_REFERENCE = re.compile(r"&(?!(?:lt|gt|amp|nbsp);)")
_RUN = re.compile(r"\w++", re.ASCII)

_MARKUP = re.compile(
    r"""
    \\(?P<escaped>[!-/:-@\[-`{-~])
    | <(?P<address>[a-zA-Z][a-zA-Z0-9+.-]{1,31}:[^\s<>]*+|[^\s<>@]++@[^\s<>@]++)>
    | </?[a-zA-Z][^<>"']*+(?:"[^"]*+"[^<>"']*+|'[^']*+'[^<>"']*+)*+>
    | \]\(\s*+(?:<[^<>\n]*+>|[^()\s]*+(?:\([^()\s]*+\)[^()\s]*+)*+)
      (?:\s++(?:"[^"]*+"|'[^']*+'))?+\s*+\)
    | (?m:^)[ ]{0,3}\[[^\[\]\n]++\]:[ \t]*+(?:<[^<>\n]*+>|[^\s<]\S*+)
      (?:[ \t]++(?:"[^"\n]*+"|'[^'\n]*+'|\([^()\n]*+\)))?+[ \t]*+(?m:$)
    | \*++ | ~~++
    | (?<![^\W_])_++ | _++(?![^\W_])
    """,
    re.X,
)
_TICKS = re.compile(r"`++")

# Letters that look like nothing, beside Unicode's spaces, format and control characters.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_UNSEEN = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))
_IMAGE = re.compile(r"<img\b[^<>]*+(?:\"[^\"]*+\"[^<>\"]*+)*+>", re.I)
# Pictures without a description, empty code blocks and rules, from one end of the answer to the
# other.
_BARE = re.compile(
    r"(?:\s++|(?m:^)[ >]*+(?:-{3,}+|_{3,}+|\*{3,}+)[ ]*+(?m:$)"
    r"|\[?!\[\s*+\]\([^()\s]*+(?:\s++\"[^\"]*+\")?+\)(?:\]\([^()\s]*+\))?+"
    r"|`{3,}+[^\n`]*+\s*+`{3,}+|~{3,}+[^\n~]*+\s*+~{3,}+)++\Z"
)


def of_html(html: str) -> str:
    """The text of HTML: what tags part is parted, what buttons and drawings say is left out."""
    html = without_comments(html)
    tags = [(match.start(), match.end(), match[0]) for match in TAG.finditer(html)]
    ends = _ends(tags)
    found: list[str] = []
    at = index = 0
    while index < len(tags):
        start, end, tag = tags[index]
        name = name_of(tag)
        found.append(html[at:start])
        if name not in _INLINE:
            found.append("\n")
            if name == "img":
                found.append(f"{escape(attribute(tag, 'alt'))}\n")
        at, index = end, index + 1
        if name in _HIDDEN and tag[1] != "/":
            later = ends[name]
            while later and later[0] < index:
                later.popleft()
            if later:  # without an end it hides nothing
                index = later[0] + 1
                at = tags[index - 1][1]
    return decode("".join([*found, html[at:]]))


def descriptions(html: str) -> str:
    """What the pictures of HTML are said to show."""
    if "<img" not in html and "<IMG" not in html:
        return ""
    return "\n".join(attribute(tag, "alt") for tag in _IMAGE.findall(html))


def _ends(tags: Sequence[tuple[int, int, str]]) -> dict[str, deque[int]]:
    """Where the end tags of what is hidden stand."""
    ends: dict[str, deque[int]] = {name: deque() for name in _HIDDEN}
    for index, (_, _, tag) in enumerate(tags):
        if tag[1] == "/" and (name := name_of(tag)) in ends:
            ends[name].append(index)
    return ends


def of_markdown(text: str) -> str:
    """The text of Markdown: code as it stands, the rest without marks and link targets."""
    pieces: list[str] = []
    for piece, is_code in _pieces(text):
        pieces.append(piece if is_code else unescape(_MARKUP.sub(_shown, piece)))
    return "".join(pieces)


def _shown(match: re.Match[str]) -> str:
    return match["escaped"] or match["address"] or ""


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, each with whether it stands between two equal runs of back-ticks."""
    runs = [match.span() for match in _TICKS.finditer(text)]
    later: defaultdict[int, deque[int]] = defaultdict(deque)
    for index, (start, end) in enumerate(runs):
        later[end - start].append(index)
    at = index = 0
    while index < len(runs):
        start, end = runs[index]
        same = later[end - start]
        while same and same[0] <= index:
            same.popleft()
        if same:
            index = same[0]
            close = runs[index]
            yield text[at:start], False
            yield text[end : close[0]], True
            at = close[1]
        index += 1
    yield text[at:], False


@cache
def _runs(word: str) -> list[str]:
    """The ASCII letters that a folded word has in a row."""
    return _RUN.findall(word)


def html_may_say(html: str, words: Sequence[str]) -> bool:
    """Whether HTML might say a folded word; a quick no is right, a yes is a guess.

    Where nothing parts a word its ASCII letters stand in a row even before tags are taken away,
    which is most of the work. (An accent that stands behind a tag joins no letter before it here,
    where it would without the tag: that only leaves more letters to be found.)
    """
    html = caseless(html)
    if _REFERENCE.search(html):
        return True
    if _PARTED.search(html):
        html = _BARELY_PARTED.sub("", html)
        if _PARTED.search(html):
            return True
    return any(all(run in html for run in _runs(word)) for word in words)


def caseless(text: str) -> str:
    """Text without regard to case and to how its accents are coded."""
    text = text.casefold()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Text as words are compared: caseless, any white space as one space."""
    return " ".join(caseless(text).split())


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen: spaces, zero-width characters, fillers."""
    if "!" <= text[:1] <= "~":
        return False  # nearly every text
    return all(
        character in _BLANKS or unicodedata.category(character) in _UNSEEN for character in text
    )


def says_nothing(markdown: str) -> bool:
    """Whether an answer holds no text: only blanks, nameless pictures, empty code blocks, rules."""
    if markdown[:1].isascii() and markdown[:1].isalnum():
        return False  # nearly every answer
    return is_blank(markdown) or _BARE.match(markdown) is not None
