"""Rarer forms of ChatGPT's page, rewritten to the usual ones before anything else looks at them."""

from __future__ import annotations

import re
from html import escape

from openchat_cli.data.dom import RARE, SPACE, TAG, canonical, decode, name_of
from openchat_cli.data.preformatted import LONGEST_HEAD, LONGEST_LABEL, without_words

_TO_END = r"[^<]*+(?:<(?!/{0}>)[^<]*+)*+</{0}>"
# A block of code that lost its `<pre>`.
_BARE_CODE = re.compile(r"<code\b[^<>]*whitespace-pre[^<>]*>" + _TO_END.format("code"))
# MathJax: what is shown stands before the script with the source, or after it.
_SCRIPT = re.compile(r"<script\b([^<>]*math/tex[^<>]*)>([^<]*+(?:<(?!/script>)[^<]*+)*+)</script>")
_REFERENCE = re.compile(
    r"<sup\b[^<>]*>\s*<a\b[^<>]*#(?:user-content-)?fn-?([^<>\"'\s]+)[^<>]*>[^<]*</a>\s*</sup>"
)
_LABEL = re.compile(r"<h2\b[^<>]*footnote-label[^<>]*>[^<]*</h2>")
_BACK = re.compile(r"\s*<a\b[^<>]*footnote-backref[^<>]*>" + _TO_END.format("a"))
_NOTE = re.compile(r"<li\b[^<>]*id=\"user-content-fn-([^<>\"]+)\"[^<>]*>(\s*<p\b[^<>]*>)?")
# Where a block's head stands before its `<pre>`: what may be between them.
_HEAD_TAGS = {"div", "span", "button", "svg", "path", "rect", "line", "polyline", "g", "use", "i"}
_NO_NAME = re.compile(r"[`\n.,:;!?，。：；！？]|\s\S+\s")


def usual(html: str) -> str:
    """The same page, canonical, with code blocks, formulas and footnotes in their usual form."""
    is_rare = RARE.search(html) is not None
    if is_rare and "math/tex" in html and _all_end(html, "script"):
        html = _SCRIPT.sub(_formula, html)
    if "footnote" in html and _all_end(html, "a"):
        html = _BACK.sub("", _LABEL.sub("", _REFERENCE.sub(r"[^\1]", html)))
        html = _NOTE.sub(r"</ol><p>[^\1]: ", html)
    if "<pre" not in html and "whitespace-pre" in html and _all_end(html, "code"):
        html = _BARE_CODE.sub(lambda match: f"<pre>{match[0]}</pre>", html)
    if "<pre" in html:
        html = _with_heads_inside(html)
    return canonical(html) if is_rare else html


def _all_end(html: str, name: str) -> bool:
    """Whether an end tag follows the last start tag, so that no search for one is in vain."""
    return html.rfind(f"<{name}") < html.rfind(f"</{name}>")


def _formula(script: re.Match[str]) -> str:
    kind = "katex-display" if "display" in script[1] else "katex"
    tex = escape(script[2], quote=False)
    annotation = f'<annotation encoding="application/x-tex">{tex}</annotation>'
    return f'<span class="{kind}">{annotation}</span>'


def _with_heads_inside(html: str) -> str:
    """The same with a code block's head that stands before its `<pre>` moved into it."""
    parts: list[str] = []
    begin = floor = 0
    at = html.find("<pre")
    while at >= 0:
        before = html[html.rfind("<", floor, at) : at]
        if name_of(before) in _HEAD_TAGS:
            size, label = _head_before(html[max(floor, at - LONGEST_HEAD) : at])
            after = html.find(">", at) + 1
            if size and after:
                parts += (html[begin : at - size], html[at:after], label)
                begin = after
        floor = at
        at = html.find("<pre", at + 4)
    return "".join([*parts, html[begin:]]) if parts else html


def _head_before(html: str) -> tuple[int, str]:
    """(length, label) of a block's head that ends `html`; (0, "") without the button's words."""
    tags = list(TAG.finditer(html))
    size, copied, end = 0, False, len(html)
    for tag in reversed(tags):
        if words := html[tag.end() : end].strip(SPACE):
            label = without_words(decode(words))
            copied = copied or label != words
            if label:
                is_name = len(label) <= LONGEST_LABEL and not _NO_NAME.search(label)
                found = (len(html) - tag.end(), f"<span>{escape(label)}</span>")
                return found if copied and is_name else (size, "")
        if copied:
            size = len(html) - tag.end()
        end = tag.start()
        if name_of(tag[0]) not in _HEAD_TAGS:
            break
    return size, ""
