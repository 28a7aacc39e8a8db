"""A saved ShareGPT page: its `__NEXT_DATA__`, found by bytes wherever it stands."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

from openchat_cli.data.candidates import RejectError

_MARK = b"__NEXT_DATA__"
_ID = re.compile(rb"""\sid\s*=\s*["']?__NEXT_DATA__["'\s>]""")
_TAG = re.compile(rb"<[a-zA-Z!]")
_LONGEST_TAG = 4096


def next_data(page: bytes) -> Any:
    """The JSON value of the page's data script; RejectError where there is none."""
    script = _by_bytes(page)
    if script is not None:
        return parse_json(script)
    text = _by_parser(page) if _may_hide(page) else None
    if text is not None:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    if not _TAG.search(page):
        raise RejectError("not_html", "no tag in it" if page.strip() else "the file is empty")
    raise RejectError("no_data", "no script with that id")


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


def _by_bytes(page: bytes) -> bytes | None:
    at = page.find(_MARK)
    while at >= 0:
        start = page.rfind(b"<", max(0, at - _LONGEST_TAG), at)
        end = page.find(b">", at, at + _LONGEST_TAG)
        if start >= 0 and end >= 0 and page.startswith(b"<script", start):
            tag = page[start : end + 1]
            if _ID.search(tag) and not _in_comment(page, start):
                close = page.find(b"</script", end)
                return page[end + 1 : close if close >= 0 else len(page)]
        at = page.find(_MARK, at + 1)
    return None


def _in_comment(page: bytes, at: int) -> bool:
    # Where a script's own text looks like the beginning of one, the parser finds the truth.
    return page.rfind(b"<!--", 0, at) > page.rfind(b"-->", 0, at)


def _may_hide(page: bytes) -> bool:
    """Whether a parser could find what the bytes did not show: odd case, references, UTF-16."""
    if b"\0" in page[:1000]:
        return True
    lower = page.lower()
    return b"<script" in lower and (b"next_data" in lower or b"&#" in page)


def _by_parser(page: bytes) -> str | None:
    from bs4 import BeautifulSoup
    from bs4.filter import SoupStrainer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            soup = BeautifulSoup(page, "html.parser", parse_only=SoupStrainer("script"))
        except (AssertionError, ValueError, RecursionError):  # html.parser gave up
            return None
        script = soup.find("script", id=_MARK.decode())
    return None if script is None else script.get_text()
