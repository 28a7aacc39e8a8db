"""HTML in which text can't become markup.

`Html` is a text that is known to be safe markup; every other text is escaped when it is put into a
tag. Joining `Html` by `+`, `join` or an f-string gives a plain text again, which the next tag
escapes: a slip shows up on the page as visible tags, never as markup of somebody else's.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable

from openchat_cli.core.jsonl import Json

# Characters that reorder or hide what follows them (Unicode TR36 §3.1): shown by their names.
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_UNSEEN = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff]")
_VOID = {"br", "col", "hr", "input", "link", "meta"}


class Html(str):
    """Markup that is safe to put into a page as it is."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text with control characters, bidi overrides and lone surrogates spelt out as [U+202E].

    Tabs and line ends stay; right-to-left text itself needs none of what is spelt out.
    """
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def escape(text: str) -> Html:
    """Text as markup that shows exactly this text, also inside an attribute."""
    return Html(html.escape(visible(text), quote=True))


def join(parts: Iterable[str], separator: str = "") -> Html:
    """Parts one after the other; those that are not Html are escaped."""
    safe = (part if isinstance(part, Html) else escape(part) for part in parts)
    return Html(escape(separator).join(safe))


def tag(name: str, /, *children: str, **attributes: str | int | float | bool | None) -> Html:
    """One element: `tag("td", "a < b", class_="n")`.

    Children that are not Html are escaped. `class_` is class, `data_id` is data-id; True is an
    attribute without a value, None and False leave it out; numbers lose needless digits.
    """
    head = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{head}>")
    return Html(f"<{name}{head}>{join(children)}</{name}>")


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'


def script_json(value: Json) -> Html:
    """JSON for a <script type="application/json">: nothing in it can end the script."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text.encode("utf-8", "backslashreplace").decode())


def identifier(text: str) -> str:
    """A text as a part of an id or a URL fragment: ASCII letters, digits, `.`, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:80] or "-"
