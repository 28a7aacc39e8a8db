"""Elements of a page cut out of its HTML, in one pass and without a tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_NAME = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)")
_STOP = re.compile(r"[>\"']")
_OPEN = re.compile(r"<(?:!--|/?[a-zA-Z])")
_RAW = ("script", "style", "textarea", "noscript", "template")

Test = Callable[[str], bool]


class Tag(NamedTuple):
    """One tag: where it stands, and its name in lower case."""

    start: int
    end: int
    name: str
    is_end: bool


@dataclass(slots=True)
class Element:
    """An element: its start tag, what stands in it, and the wanted parts of that."""

    tag: str
    start: int
    end: int = 0
    inner: str = ""
    parts: list[str] = field(default_factory=list)
    pictures: int = 0


class _Open(NamedTuple):
    """An element whose end is looked for; `start` is where its inside begins."""

    name: str
    start: int


def tags(html: str) -> Iterator[Tag]:
    """The tags of a page, but for those in comments, scripts and the like."""
    at = 0
    while opening := _OPEN.search(html, at):
        if opening[0] == "<!--":
            end = html.find("-->", opening.start() + 2)
            at = end + 3 if end >= 0 else len(html)
            continue
        end = _end(html, opening.end())
        if end < 0:
            return  # a tag without an end takes the rest
        match = _NAME.match(html, opening.start())
        assert match is not None
        name = match[2].lower()
        yield Tag(opening.start(), end, name, bool(match[1]))
        at = end
        if name in _RAW and not match[1]:
            close = re.compile(rf"</{name}", re.I).search(html, at)
            at = close.start() if close else len(html)


def _end(html: str, at: int) -> int:
    """Where the tag ends that goes on here; -1 where it does not."""
    while stop := _STOP.search(html, at):
        if stop[0] == ">":
            return stop.end()
        at = html.find(stop[0], stop.end()) + 1
        if at == 0:
            break
    return -1


def elements(html: str, wanted: Test, part: Test) -> Iterator[Element]:
    """The outermost elements whose start tag is `wanted`, with the outermost `part`s in each."""
    reader = _Reader(html, wanted, part)
    for tag in tags(html):
        done = reader.take(tag)
        if done is not None:
            yield done


class _Reader:
    """One element at a time; only tags of the name that is open count for where it ends."""

    def __init__(self, html: str, wanted: Test, part: Test) -> None:
        self._html, self._wanted, self._part = html, wanted, part
        self._element: Element | None = None
        self._open: list[tuple[_Open, int]] = []  # the element, then a part; with their depth

    def take(self, tag: Tag) -> Element | None:
        """Give the element that ends with this tag."""
        if self._element is None:
            text = "" if tag.is_end else self._html[tag.start : tag.end]
            if text and self._wanted(text):
                self._element = Element(text, tag.start)
                self._open = [(_Open(tag.name, tag.end), 1)]
            return None
        opened, depth = self._open[-1]
        if tag.name == "img":
            self._element.pictures += 1
        elif tag.name == opened.name:
            depth += -1 if tag.is_end else 1
            if depth == 0:
                return self._close(self._element, tag)
        if len(self._open) == 1 and not tag.is_end and self._is_part(tag):
            # Where both have one name, the part's own end must count for the part alone.
            depth -= tag.name == opened.name
            self._open[-1] = (opened, depth)
            self._open.append((_Open(tag.name, tag.end), 1))
        else:
            self._open[-1] = (opened, depth)
        return None

    def _is_part(self, tag: Tag) -> bool:
        return self._part(self._html[tag.start : tag.end])

    def _close(self, element: Element, tag: Tag) -> Element | None:
        opened, _ = self._open.pop()
        inner = self._html[opened.start : tag.start]
        if self._open:
            element.parts.append(inner)
            return None
        element.inner, element.end = inner, tag.end
        self._element = None
        return element
