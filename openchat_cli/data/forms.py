"""Whether an answer in a dump is ChatGPT's HTML or Markdown, which may hold HTML as text.

HTML is what begins with an element of ChatGPT's page (its class says so), or what is nothing but
elements that Markdown renders to, from end to end. Whoever writes HTML code into an answer writes
text around it, indents it, or uses elements and attributes that no rendered answer has.
"""

from __future__ import annotations

import re

_CHATGPT = re.compile(
    r"\s*+(?:\d+ / \d+\s*+)?<div\b[^<>]*\bclass=[\"'][^\"'<>]*"
    r"(?:\bmarkdown\b[^\"'<>]*\bprose\b|\bwhitespace-pre-wrap\b|\bmin-h-\[20px\])",
    re.I,
)
_MARKUP = re.compile(r"<[a-zA-Z!/]|&(?:[a-zA-Z]+|#\w+);")
_OUTER = 2000  # characters in which the outermost element's class stands
_BLOCK = re.compile(
    r"\s*+<(?:div|p|pre|ul|ol|table|h[1-6]|blockquote|hr|details)(?=[\s/>])[^<>]*>", re.I
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)([^<>]*+)>")
# HTML that somebody wrote: indented, or with fences of Markdown in it.
_CODE = re.compile(r">[ \t]*+\r?\n[ \t]++<|^(?:```|~~~)", re.M)
_ATTRIBUTE = re.compile(r"\s(?:id|name|on[a-z]+|action|method|for|charset|content)\s*=", re.I)
_VOID = {"br", "hr", "img", "input", "wbr", "path", "rect", "line", "polyline", "circle"}
# What ChatGPT's page renders an answer to: Markdown, code blocks with their head, formulas.
_RENDERED_NAMES = (
    "a annotation b blockquote button code col colgroup dd del details div dl dt em figure g "
    "h1 h2 h3 h4 h5 h6 i ins li math mfrac mi mn mo mover mrow ms mspace msqrt mroot mstyle msub "
    "msubsup msup munder munderover mtable mtd mtext mtr mpadded mphantom menclose ol p pre s "
    "semantics span strike strong sub summary sup svg table tbody td tfoot th thead tr u ul"
)
_RENDERED = {*_VOID, *_RENDERED_NAMES.split()}


def has_markup(text: str) -> bool:
    """Whether there is anything of HTML in a text: a tag or a character reference."""
    return _MARKUP.search(text) is not None


def is_html(text: str) -> bool:
    """Whether an answer is HTML; see the module."""
    if _CHATGPT.match(text[:_OUTER]):
        return True
    if not _BLOCK.match(text) or not text.rstrip().endswith(">"):
        return False
    flow = _without_code(text)
    return not _CODE.search(flow) and _is_rendered(flow)


def _without_code(html: str) -> str:
    """The same without what stands in `<pre>`."""
    kept: list[str] = []
    at = 0
    while (start := html.find("<pre", at)) >= 0:
        end = html.find("</pre>", start)
        if end < 0:
            break
        kept.append(html[at:start])
        at = end + len("</pre>")
    kept.append(html[at:])
    return "".join(kept)


def _is_rendered(html: str) -> bool:
    """Only elements of a rendered answer, and no text outside the outermost ones."""
    depth, end = 0, 0
    for tag in _TAG.finditer(html):
        if depth <= 0 and html[end : tag.start()].strip():
            return False
        name = tag[2].lower()
        if name not in _RENDERED or _ATTRIBUTE.search(tag[3]):
            return False
        end = tag.end()
        if name not in _VOID and not tag[3].endswith("/"):
            depth += -1 if tag[1] else 1
    return not html[end:].strip()
