"""ChatGPT's rendered HTML back to the Markdown it came from: the `exact` converter.

The input language is what a browser serialises (`outerHTML`), but any HTML gives some Markdown:
unknown tags mean nothing, missing end tags are supplied.
"""

from __future__ import annotations

import re

from openchat_cli.data.converter import Converter, Handler
from openchat_cli.data.dom import attribute, name_of, visible_text
from openchat_cli.data.emphasis import EMPHASIS

__all__ = ["to_markdown", "visible_text"]


def to_markdown(html: str) -> str:
    """The Markdown of one message's HTML."""
    return Converter(html, _FLOW, _CELL).run()


_BOUNDARIES = (
    "address article aside body caption center dd details dialog div dl dt fieldset figcaption "
    "figure footer form header html main nav p section summary"
)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def _flow_table() -> dict[str, Handler]:
    """What each tag does outside tables; a name stands for the start, `/name` for the end."""
    do = Converter
    table: dict[str, Handler] = {"br": do.line_break, "/br": do.line_break, "hr": do.rule}
    for name in _BOUNDARIES.split():
        table |= {name: do.boundary, f"/{name}": do.boundary}
    for name in _HEADINGS:
        table |= {name: do.boundary, f"/{name}": do.end_heading}
    for name in EMPHASIS:
        table |= {name: do.emphasis, f"/{name}": do.end_emphasis}
    for name in ("ul", "ol"):
        table |= {name: do.open_list, f"/{name}": do.end_list}
    for name in ("sup", "sub"):
        table |= {name: do.as_html, f"/{name}": do.as_html}
    for name in ("button", "svg", "style", "script", "noscript", "template", "title"):
        table[name] = do.skip
    for name in ("td", "th"):
        table[name] = do.open_cell
    table |= {
        "/p": do.end_paragraph,
        "pre": do.preformatted,
        "blockquote": do.open_quote,
        "/blockquote": do.end_quote,
        "li": do.open_item,
        "/li": do.end_item,
        "code": do.code,
        "a": do.link,
        "/a": do.end_link,
        "img": do.image,
        "input": do.field,
        "math": do.math,
        "table": do.open_table,
        "/table": do.end_table,
        "tr": do.open_row,
    }
    return table


def _cell_table() -> dict[str, Handler]:
    """The same inside a table's cell, which can hold no blocks."""
    do = Converter
    blocks = {
        name: do.cell_boundary
        for name, handler in _flow_table().items()
        if handler in (do.boundary, do.end_paragraph, do.end_heading, do.rule, do.open_quote)
        or handler in (do.end_quote, do.open_list, do.end_list, do.open_item, do.end_item)
    }
    return (
        _flow_table()
        | blocks
        | {
            "pre": do.cell_code,
            "table": do.inner_table,
            "tr": do.next_row,
            "td": do.next_cell,
            "th": do.next_cell,
            "/td": do.end_cell,
            "/th": do.end_cell,
        }
    )


class _Handlers(dict[str, Handler | None]):
    """Handlers by whole tag, worked out from the tag's name when it is met first."""

    _MOST = 10_000

    def __init__(self, by_name: dict[str, Handler]) -> None:
        super().__init__()
        self._by_name = by_name

    def __missing__(self, tag: str) -> Handler | None:
        name = name_of(tag)
        handler = self._by_name.get(f"/{name}" if tag[1] == "/" else name)
        if "class" in tag or "hidden" in tag or "display:" in tag:
            handler = _by_class(name, tag, handler)
        if len(self) < self._MOST and len(tag) < 200:
            self[tag] = handler
        return handler


_MATH = {"katex", "katex-display", "math", "math-inline", "math-display", "math-block"}
# Words for those who can't see, and what MathJax shows beside its source.
_UNSEEN = {"sr-only", "visually-hidden", "MathJax", "MathJax_Display", "MathJax_Preview"}
_HIDDEN = re.compile(r"\shidden(?=[\s>=/])", re.I)
_VALUES = re.compile(r"\"[^\"]*\"|'[^']*'")
_VOID = {"br", "hr", "img", "input"}


def _by_class(name: str, tag: str, usual: Handler | None) -> Handler | None:
    if tag[1] == "/" or name == "pre" or name in _VOID:
        return usual
    classes = attribute(tag, "class").split()
    if name in ("span", "div") and not _MATH.isdisjoint(classes):
        return Converter.math
    style = attribute(tag, "style").replace(" ", "")
    bare = _VALUES.sub('""', tag) if "hidden" in tag else ""
    if not _UNSEEN.isdisjoint(classes) or "display:none" in style or _HIDDEN.search(bare):
        return Converter.hidden
    return usual


_FLOW = _Handlers(_flow_table())
_CELL = _Handlers(_cell_table())
