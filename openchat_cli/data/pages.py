"""A saved ShareGPT page: its `__NEXT_DATA__`, found by bytes wherever it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

from openchat_cli.data.candidates import RejectError

_MARK = b"__NEXT_DATA__"
_ID = re.compile(rb"""\sid\s*=\s*["']?__NEXT_DATA__["'\s>]""")
_ID_TEXT = re.compile(r"""[\s"'/]id\s*=\s*["']?__NEXT_DATA__["'\s>]""", re.I)
_TAG = re.compile(rb"<[a-zA-Z!]")
# Elements whose text is no markup to a browser: a script in them is none.
_TEXT = (b"textarea", b"title", b"noscript")
_OPEN = re.compile(rb"<!--|<(?:script|(%s))(?=[\s/>])" % b"|".join(_TEXT), re.I)
_START = re.compile(rb"<script(?:[^\"'>]++|\"[^\"]*+\"|'[^']*+')*+>", re.I)
_CLOSE = re.compile(rb"</script", re.I)
# One pass that begins at each `<`: a search for each of the names is five times as slow.
# (The look at the first letter saves most of what ignoring its case costs.)
_HIDING = re.compile(rb"<(?:!--|/?(?=[tTnN])(?i:%s))" % b"|".join(_TEXT))
_LONGEST_TAG = 4096


def next_data(page: bytes) -> Any:
    """The JSON value of the page's data script; RejectError where there is none."""
    script = _by_mark(page)
    if script is None and _may_hide(page):
        script = _by_scripts(page)
    if script is not None:
        return _quickly_parsed(script)
    if not _TAG.search(page):
        raise RejectError("not_html", "no tag in it" if page.strip() else "the file is empty")
    raise RejectError("no_data", "no script with that id")


def _quickly_parsed(data: bytes) -> Any:
    """What `parse_json` gives; it has the last word on what the quick parser doesn't take."""
    import orjson

    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return parse_json(data)


def parse_json(data: bytes) -> Any:
    """The value of JSON in UTF-8; RejectError for what is not."""
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        if error.end < len(data) or error.reason != "unexpected end of data":
            raise RejectError("not_utf8", f"byte {error.start} of the JSON") from None
        text = data[: error.start].decode("utf-8", "surrogatepass")  # cut off inside a character
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RejectError("bad_json", f"{error.msg} at character {error.pos}") from None
    except (RecursionError, ValueError) as error:
        raise RejectError("bad_json", str(error).split(":")[0]) from None


def _by_mark(page: bytes) -> bytes | None:
    """The quick way, for a script as browsers save it; None also where a look around is needed."""
    at = page.find(_MARK)
    while at >= 0:
        start = page.rfind(b"<", max(0, at - _LONGEST_TAG), at)
        last = at + _LONGEST_TAG
        if start >= 0 and page.startswith(b"<script", start) and page.find(b">", at, last) >= 0:
            tag = _START.match(page, start, last)
            if tag and _ID.search(tag[0]):
                if _may_be_text(page, start):
                    return None
                return page[tag.end() : _close(page, tag.end())]
        at = page.find(_MARK, at + 1)
    return None


def _may_be_text(page: bytes, at: int) -> bool:
    """Whether that place is in a comment or in text, or a script looks like the start of one."""
    last = {match[0].lower(): match.start() for match in _HIDING.finditer(page, 0, at)}
    if b"<!--" in last and page.find(b"-->", last[b"<!--"], at) < 0:
        return True
    return any(last.get(b"<" + name, -1) > last.get(b"</" + name, -1) for name in _TEXT)


def _close(page: bytes, begin: int) -> int:
    """Where the script's end tag stands; the data writes its own `<` as an escape."""
    at = page.find(b"<", begin)
    if at >= 0 and not page.startswith(b"</script", at):
        at = page.find(b"</script", at)
    return at if at >= 0 else len(page)


def _may_hide(page: bytes) -> bool:
    """Whether the quick way may have missed it: odd case, references, comments, UTF-16."""
    if b"\0" in page[:1000]:
        return True
    lower = page.lower()
    return b"<script" in lower and (b"next_data" in lower or b"&#" in page)


def _by_scripts(page: bytes) -> bytes | None:
    """One script after the other; linear whatever the page holds, which no parser promises."""
    if b"\0" in page[:1000]:
        try:
            page = page.decode("utf-16").encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None
    return next((text for tag, text in _scripts(page) if _is_data(tag)), None)


def _scripts(page: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(start tag, text) of each script outside comments."""
    at = 0
    while opening := _OPEN.search(page, at):
        if opening[0] == b"<!--":
            end = page.find(b"-->", opening.start() + 2)
            at = end + 3 if end >= 0 else len(page)
            continue
        if name := opening[1]:
            close = re.compile(rb"</" + name, re.I).search(page, opening.end())
            at = close.end() if close else len(page)
            continue
        tag = _START.match(page, opening.start())
        if tag is None:
            return  # a tag without an end takes the rest
        close = _CLOSE.search(page, tag.end())
        at = close.start() if close else len(page)
        yield tag[0], page[tag.end() : at]


def _is_data(tag: bytes) -> bool:
    text = unescape(tag.decode("utf-8", "replace"))
    if _ID_TEXT.search(text) is None:
        return False  # before any parser: a page may hold very many scripts
    from bs4 import BeautifulSoup

    script = BeautifulSoup(tag, "html.parser").script
    return script is not None and script.get("id") == _MARK.decode()
