"""Words of the page that were saved with a text, and text that is not well-formed Unicode."""

from __future__ import annotations

import re

# "2 / 2" above a message that was edited. It stands on its own line, or the text is glued to it.
_PAGER = re.compile(r"\s*+([1-9]\d{0,2}) / ([1-9]\d{0,2})(?:(?:[ \t]*+\r?\n)++|(?=(?P<glued>\S)))")
# What may be glued to a pager: a word of more than one letter, I or A, a letter of a script that no
# quantity is written in (not Greek), a picture, or a mark that opens something.
_GLUED = re.compile(
    r"[^\W\d_]{2}|[IA][ ']|[^\W\d_A-Za-z\u00b5\u0370-\u03ff\u2126]|[\U0001f300-\U0001faff]"
    r"|[“„«‘「『《【¿¡`#@\[{]|[\"'](?=\w)|\((?=[^\W\d_]{3})|</?[A-Za-z!][^<>]*>|/[a-z]{2}"
)
# "1 / 2cups" is a quantity, "1 / 2pi" a number, "2 / 2nd" half a date.
_UNIT = re.compile(
    r"(?:cups?|tsps?|tbsps?|teaspoons?|tablespoons?|pints?|quarts?|gallons?|pounds?|ounces?|grams?|"
    r"inch(?:es)?|in|ft|feet|foot|yards?|miles?|kg|mg|ml|dl|oz|lbs?|mm|cm|km|mph|"
    r"hours?|hrs?|h|minutes?|mins?|seconds?|secs?|ms|days?|weeks?|months?|years?|st|nd|rd|th|of|"
    r"[\u00b5\u03bc][a-z]{1,2}|pi|sin|cos|tan|log|ln|exp|sqrt|times|percent|am|pm)(?![^\W\d_])",
    re.I,
)
# A quantity right behind a pager: "2 / 2" and "1 / 2 cup" are saved as "2 / 21 / 2 cup".
_QUANTITY = re.compile(r"\s*+([1-9]) / ([1-9])(?=([1-9] / [1-9]\d?) +(?P<unit>[^\W\d_]+))")
_COPIED = re.compile(r"Copy\d[\d,]{0,10} chars? / \d[\d,]{0,10} words?$")
_SHARE = "Share Prompt"
# The same pager in an answer's HTML, outside the message's own paragraphs.
_HTML_PAGER = re.compile(
    r"\s*+((?:<(?:div|span)\b[^<>]*>\s*+)*+)[1-9]\d{0,2} / [1-9]\d{0,2}\s*+(?=</?(?:div|span|p)\b)"
)


def human_text(text: str) -> str:
    """A human message, verbatim but for the page's own words at its two ends."""
    return _without_tail(_without_pager(text))


def answer_html(html: str) -> str:
    """An answer's HTML without a pager before it."""
    match = _HTML_PAGER.match(html) if " / " in html[:400] else None
    return match[1] + html[match.end() :] if match else html


def _without_pager(text: str) -> str:
    match = _QUANTITY.match(text)
    if match and _is_pager(match) and _UNIT.match(match["unit"]):
        return text[match.end() :]
    match = _PAGER.match(text)
    if match is None or not _is_pager(match):
        return text
    rest = text[match.end() :]
    if not rest.strip() or (match["glued"] and (not _GLUED.match(rest) or _UNIT.match(rest))):
        return text
    return rest


def _is_pager(match: re.Match[str]) -> bool:
    return 2 <= int(match[2]) >= int(match[1])


def _without_tail(text: str) -> str:
    kept = text
    while True:
        end = kept.rstrip()
        copied = _COPIED.search(end[-60:])
        if copied:
            kept = end[: -len(copied[0])]
        elif end.endswith(_SHARE) and _stands_apart(end[: -len(_SHARE)]):
            kept = end[: -len(_SHARE)]
        else:
            break
    if kept == text or not kept.strip():
        return text
    # The line ends before those words are theirs; other white space is the text's own.
    end = kept.rstrip()
    own = re.match(r"[^\r\n]*+", kept[len(end) :])
    return end + (own[0] if own else "")


def _stands_apart(before: str) -> bool:
    """On a line of its own or glued to the text: not the end of somebody's sentence."""
    return bool(before) and before[-1] not in " \t"


def mended(text: str) -> str:
    """The same with lone surrogates, which no UTF-8 can hold, joined to pairs or as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
