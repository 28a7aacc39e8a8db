"""The converters that `--converter` names: ours, and html2text for comparison."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from openchat_cli.core.errors import MissingExtraError
from openchat_cli.data.html import to_markdown
from openchat_cli.data.marks import fence_for
from openchat_cli.data.preformatted import code_block
from openchat_cli.data.settings import Converter

_PRE = re.compile(r"<pre(?=[\s>])[^<]*+(?:<(?!/pre>)[^<]*+)*+</pre>")
_PLACE = re.compile(r"^([ \t>*+.\d-]*)OPENCHATCODE(\d+)X", re.M)


def check(name: Converter) -> None:
    """Raise MissingExtraError where the converter's package is not installed."""
    if name == "html2text":
        _html2text()


def get(name: Converter) -> Callable[[str], str]:
    """HTML to Markdown by that converter."""
    return to_markdown if name == "exact" else _with_html2text


@cache
def _html2text() -> type:
    try:
        from html2text import HTML2Text
    except ImportError:
        raise MissingExtraError("--converter html2text", "html2text") from None
    converter: type = HTML2Text
    return converter


def _with_html2text(html: str) -> str:
    """html2text with the code blocks kept out of its reach and put back afterwards."""
    blocks: list[str] = []

    def keep(match: re.Match[str]) -> str:
        code, language = code_block(match[0])
        fence = fence_for(code)
        blocks.append(f"{fence}{language}\n{code}{fence}")
        return f"<p>OPENCHATCODE{len(blocks) - 1}X</p>"

    kept = _PRE.sub(keep, html)
    converter = _html2text()(bodywidth=0)
    text = str(converter.handle(kept)).strip()

    def block(match: re.Match[str]) -> str:
        indent = re.sub(r"[^ \t>]", " ", match[1])
        return match[1] + blocks[int(match[2])].replace("\n", f"\n{indent}")

    return _PLACE.sub(block, text)
