"""A page's conversation: ShareGPT's data, a page shared by ChatGPT, or a saved page of ChatGPT.

What is tried, in this order:

the data script (`__NEXT_DATA__`)       ShareGPT's pages; ChatGPT's shared ones of 2023
React Router's stream                   ChatGPT's shared pages since 2024
elements with data-message-author-role  saved pages since the end of 2023
elements of class `group w-full`        saved pages before that, human and answer in turn

An answer is what stands in its `markdown` element, a human text is the text of its element as it
is. Pictures leave the conversation out, as in ChatGPT's export.
"""

from __future__ import annotations

import re

from openchat_cli.data import pages, shapes, turbo
from openchat_cli.data.candidates import Candidate, RejectError, Turn
from openchat_cli.data.dom import attribute
from openchat_cli.data.elements import Element, elements
from openchat_cli.data.export import from_export
from openchat_cli.data.html import visible_text

_ROLE = b"data-message-author-role"
_STREAM = b"streamController.enqueue"
_OLD = b"markdown prose"
_WITHOUT_CHAT = ("no_data", "no_content", "bad_json")

_OLD_MODEL = re.compile(r">\s*(Model: [^<>]{1,60}|Default \(GPT-3\.5\))\s*<")
_ADDRESS = re.compile(
    r"(?:saved from url=\(\d+\)|rel=\"canonical\" href=\"|property=\"og:url\" content=\")"
    r"https://(?:chat\.openai\.com|chatgpt\.com)/(?:[^\s\"<>]*/)?(?:c|share)/([\w-]{8,64})"
)
_BREAK = re.compile(r"<br\s*/?>", re.I)
_PILL = "webpage-citation-pill"


def from_page(data: bytes) -> Candidate:
    """The conversation of a page, whichever site it is of; RejectError where there is none."""
    try:
        return shapes.from_page(pages.next_data(data))
    except RejectError as error:
        if error.reason not in _WITHOUT_CHAT or not _may_be_chatgpt(data):
            raise
        found = _of_chatgpt(data)
        if found is None:
            raise
        return found


def _may_be_chatgpt(data: bytes) -> bool:
    return any(mark in data for mark in (_ROLE, _STREAM, _OLD))


def _of_chatgpt(data: bytes) -> Candidate | None:
    try:
        page = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RejectError("not_utf8", f"byte {error.start} of the page") from None
    if _STREAM in data:
        shared = turbo.conversation(page)
        if shared is not None:
            return from_export(shared)
    if _ROLE in data:
        found = list(elements(page, _has_role, _holds_text))
        turns, slug = _turns(found)
    else:
        found = list(elements(page, _is_old_turn, _holds_old_text))
        turns, slug = _old_turns(found)
        label = _OLD_MODEL.search(page)
        slug = label[1] if label else None
    if not turns:
        return None
    address = _ADDRESS.search(page)
    return Candidate(address[1] if address else None, slug, tuple(turns))


def _has_role(tag: str) -> bool:
    return "data-message-author-role" in tag


def _holds_text(tag: str) -> bool:
    classes = attribute(tag, "class").split()
    return "markdown" in classes or "whitespace-pre-wrap" in classes


def _is_old_turn(tag: str) -> bool:
    return {"group", "w-full"} <= set(attribute(tag, "class").split())


def _holds_old_text(tag: str) -> bool:
    return "whitespace-pre-wrap" in attribute(tag, "class").split()


def _turns(found: list[Element]) -> tuple[list[Turn], str | None]:
    """The turns of elements with a role, and the model of the last answer."""
    turns: list[Turn] = []
    slug = None
    for number, element in enumerate(found, 1):
        role = attribute(element.tag, "data-message-author-role")
        if role == "user":
            _add_human(turns, element, number, has_picture=element.pictures > 0)
        elif role == "assistant":
            slug = attribute(element.tag, "data-message-model-slug") or slug
            _add_answer(turns, element)
    return turns, slug


def _old_turns(found: list[Element]) -> tuple[list[Turn], str | None]:
    turns: list[Turn] = []
    for number, element in enumerate(found, 1):
        if not element.parts:
            continue
        if any(_OLD.decode() in part for part in element.parts):
            _add_answer(turns, element)
        else:
            # Outside the text stands the picture of who is speaking.
            has_picture = any("<img" in part for part in element.parts)
            _add_human(turns, element, number, has_picture=has_picture)
    return turns, None


def _add_human(turns: list[Turn], element: Element, number: int, *, has_picture: bool) -> None:
    if has_picture:
        raise RejectError("not_text", "a picture", f"message {number}")
    html = "\n".join(element.parts) or element.inner
    text = visible_text(_BREAK.sub("\n", html))
    # Outside an element that keeps its white space, what is around the text is the page's own.
    turns.append(Turn("human", text if element.parts else text.strip(), "text"))


def _add_answer(turns: list[Turn], element: Element) -> None:
    """An answer; what an answer goes on with after a tool's work is the same answer."""
    parts = element.parts or [element.inner]
    html = "".join(f"<div>{_without_pills(part)}</div>" for part in parts)
    if turns and turns[-1].role == "gpt":
        html = turns.pop().text + html
    turns.append(Turn("gpt", html, "html"))


def _without_pills(html: str) -> str:
    """An answer without the buttons that show its sources."""
    if _PILL not in html:
        return html
    kept: list[str] = []
    at = 0
    for pill in elements(html, lambda tag: _PILL in tag, lambda tag: False):
        kept.append(html[at : pill.start])
        at = pill.end
    return "".join([*kept, html[at:]])
