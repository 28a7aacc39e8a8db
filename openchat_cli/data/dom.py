"""Small readings of a page's HTML: its pieces, attributes, comments."""

from __future__ import annotations

import re
from functools import cache
from html import unescape

SPACE = " \t\n\r\f"  # HTML's white space; a no-break space is text

# A tag: quoted attribute values may hold `>`; an unquoted `<` ends the attempt, so that a page full
# of them costs no more than one pass.
_REST = r"[^<>\"']*+(?:\"[^\"]*+\"[^<>\"']*+|'[^']*+'[^<>\"']*+)*+>"
_TAG = rf"</?[a-zA-Z]{_REST}|<[!?][^<>]*+>"
TAG = re.compile(_TAG)
# An element that holds nothing but text (its name, its text), such a link, a whole `<pre>`, or any
# tag. Every `<pre>` has its end (see `pieces`), so that none of them is searched for in vain. The
# one `<` that all begin with lets the search skip what is before it.
_PIECE = re.compile(
    r"(<(?:(p|li|strong|em|del|s|code|td|th|h[1-6])>([^<]*+)</\2>"
    rf"|a {_REST}[^<]*+</a>|pre(?=[\s>/]){_REST}[^<]*+(?:<(?!/pre>)[^<]*+)*+</pre>"
    rf"|/?[a-zA-Z]{_REST}|[!?][^<>]*+>))"
)
STRIDE = 4  # of what `pieces` gives: a text, then tag, name, inner text of what follows it

_NAME = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)")
# Tags that no browser writes like that, comments, and scripts.
# (Lookbehinds, so that a name is gone over once.)
RARE = re.compile(r"<(?:(?!/)[a-z]*+(?:[A-Z]|(?<=<)!--|(?<=<script))|/[a-z]*+[0-9]*+[A-Z\s/])")
_NAMED = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*+)")
_END = re.compile(r"</([a-z][a-z0-9]*+)[^<>]*+>")


def pieces(html: str) -> list[str | None]:
    """A text, then again and again: (tag, name, inner text) of what follows, and the next text.

    Name and inner text are None unless the whole element came as one piece: then the tag is all of
    it. The HTML must be `canonical`.
    """
    if "<pre" in html and html.rfind("<pre") > html.rfind("</pre>"):
        html += "</pre>"
    return _PIECE.split(html)


def link_text(tag: str) -> str | None:
    """What a link that came as one piece holds; None for a tag."""
    return tag[tag.rindex(">", 0, -1) + 1 : -len("</a>")] if tag.endswith("</a>", 4) else None


def name_of(tag: str) -> str:
    """The name of a start or end tag, in lower case."""
    match = _NAME.match(tag)
    return match[1].lower() if match else ""


@cache
def _attribute_pattern(name: str) -> re.Pattern[str]:
    value = r"\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)"
    return re.compile(rf"[\s\"']{name}\s*=\s*(?:{value})", re.I)


def attribute(tag: str, name: str) -> str:
    """The value of a start tag's attribute, "" where it has none."""
    match = _attribute_pattern(name).search(tag)
    return decode(match[1] or match[2] or match[3] or "") if match else ""


def decode(text: str) -> str:
    """HTML character references to characters; quick for the few that browsers write."""
    if "&" not in text:
        return text
    short = text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\xa0")
    if short.count("&") == short.count("&amp;"):
        return short.replace("&amp;", "&")
    return unescape(text)


def visible_text(html: str) -> str:
    """The text of HTML without its tags and attributes."""
    return decode(TAG.sub("", without_comments(html)))


def without_comments(html: str) -> str:
    """The same without `<!-- … -->`; a comment that never ends takes the rest."""
    if "<!--" not in html:
        return html
    kept: list[str] = []
    begin = 0
    while (start := html.find("<!--", begin)) >= 0:
        kept.append(html[begin:start])
        end = html.find("-->", start + 2)
        if end < 0:
            return "".join(kept)
        begin = end + 3
    kept.append(html[begin:])
    return "".join(kept)


def canonical(html: str) -> str:
    """The same with end tags as browsers write them (`</pre>`), names in lower case, no comments.

    Only HTML in which RARE is found needs it.
    """

    def plain(match: re.Match[str]) -> str:
        tag = _NAMED.sub(lambda found: f"<{found[1]}{found[2].lower()}", match[0], count=1)
        return _END.sub(r"</\1>", tag)

    return TAG.sub(plain, without_comments(html))
