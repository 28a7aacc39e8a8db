"""Small readings of a page's HTML: attributes, comments, what a `<pre>` holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from openchat_cli.data.inline import SPACE, decode

_ODD_END = re.compile(r"</(?:[a-z0-9]*+[A-Z]|[a-z0-9]++[\s/])")
_END = re.compile(r"</([a-zA-Z][a-zA-Z0-9]*+)[^<>]*+>")
_BREAK = re.compile(r"<br\b", re.I)
_LANGUAGE = re.compile(r"(?:^|\s)lang(?:uage)?-(\S+)")
# The button's words, where an old page has them outside a button.
_COPY = re.compile(r"\s*Copy(?: code)?\s*$")
_LONGEST_LABEL = 40


@cache
def _attribute_pattern(name: str) -> re.Pattern[str]:
    value = r"\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)"
    return re.compile(rf"[\s\"']{name}\s*=\s*(?:{value})", re.I)


def attribute(tag: str, name: str) -> str:
    """The value of a start tag's attribute, "" where it has none."""
    match = _attribute_pattern(name).search(tag)
    return decode(match[1] or match[2] or match[3] or "") if match else ""


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


def canonical_ends(html: str) -> str:
    """The same with every end tag written as browsers write it (`</pre>`)."""
    if _ODD_END.search(html) is None:
        return html
    return _END.sub(lambda match: f"</{match[1].lower()}>", html)


def code_block(tag: str, inner: Sequence[str]) -> tuple[str, str]:
    """(code, language) of a `<pre>`: its own tag, then texts and tags in turn.

    The code is exact, and every line of it has its end, the last one too. The language is the class
    of `<code>`, else the label in the block's head.
    """
    starts = [place for place in range(1, len(inner), 2) if inner[place][:5].lower() == "<code"]
    if not starts:
        text = "".join(_shown(inner)).removeprefix("\n")
        return _with_last_end(decode(text)), _language(attribute(tag, "class"), "")
    begin = starts[0]
    ends = [place for place in range(begin, len(inner)) if inner[place] == "</code>"]
    code = list(inner[begin + 1 : ends[-1] if ends else len(inner)])
    code[1::2] = ["\n" if _BREAK.match(tag) else "" for tag in code[1::2]]
    text = "".join(code)
    label = next((text for text in _shown(inner[:begin]) if text.strip()), "")
    classes = attribute(inner[begin], "class") or attribute(tag, "class")
    return _with_last_end(decode(text)), _language(classes, decode(label))


def _shown(inner: Sequence[str]) -> list[str]:
    """The texts outside buttons and drawings, `<br>` as a line end."""
    texts: list[str] = []
    hidden = 0
    for place, part in enumerate(inner):
        if place % 2 == 0:
            if not hidden:
                texts.append(part)
        elif part.startswith(("<button", "<svg")):
            hidden += 1
        elif part in ("</button>", "</svg>"):
            hidden = max(0, hidden - 1)
        elif not hidden and _BREAK.match(part):
            texts.append("\n")
    return texts


def _with_last_end(code: str) -> str:
    return code if not code or code.endswith("\n") else f"{code}\n"


def _language(classes: str, label: str) -> str:
    match = _LANGUAGE.search(classes)
    label = _COPY.sub("", label).strip(SPACE)
    name = match[1] if match else label
    return name if len(name) <= _LONGEST_LABEL and not re.search(r"[`\n]", name) else ""
