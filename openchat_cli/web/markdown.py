"""Markdown of a model as safe HTML: no raw HTML, no images loaded, links only where they may go."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openchat_cli.web.html import Html, escape, tag, visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

SCHEMES = ("http:", "https:", "mailto:")

# Longer texts are shown as they are: Markdown parsers are slow on hostile texts (0.8 s at 40,000
# characters of "![", growing faster than the length).
LONGEST = 40_000


def render(text: str) -> Html:
    """CommonMark, tables and strikethrough as HTML; texts over LONGEST characters as plain text."""
    if len(text) > LONGEST:
        return plain(text)
    return Html(_parser().render(visible(text)))


def plain(text: str) -> Html:
    """Text with its own line ends, as it is."""
    return tag("div", text, class_="plain")


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = _allowed  # type: ignore[method-assign]  # the documented way to set it
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link_open)
    for kind in ("heading_open", "heading_close"):
        parser.add_render_rule(kind, _heading)
    for kind in ("th_open", "td_open"):
        parser.add_render_rule(kind, _aligned)
    return parser


def _allowed(url: str) -> bool:
    return url.strip().lower().startswith(SCHEMES)


def _image(_: object, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """An image is named, never fetched: a page must not tell a stranger that it was opened."""
    return tag("span", f"[image: {tokens[index].content or 'no description'}]", class_="image")


def _link_open(_: object, tokens: Sequence[Token], index: int, *__: Any) -> str:
    href = escape(str(tokens[index].attrs.get("href", "")))
    return f'<a href="{href}" rel="noopener noreferrer nofollow" target="_blank">'


def _aligned(_: object, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """A cell's alignment as a class: the pages' policy lets no style attribute work."""
    token = tokens[index]
    right = token.attrs.get("style") == "text-align:right"
    return f'<{token.tag} class="n">' if right else f"<{token.tag}>"


def _heading(_: object, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """Headings of a model are not headings of the page: they are marked by class and level."""
    token = tokens[index]
    return f'<p class="h {token.tag}">' if token.nesting == 1 else "</p>\n"
