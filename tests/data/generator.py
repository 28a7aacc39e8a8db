"""ShareGPT pages with known truth: what was asked and answered, and what must become of each."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.data import chatgpt, roundtrip, shell

QUESTIONS = (
    "How do I reverse a list in Python?",
    "What does `a < b` mean in my_file.py?\n    indented line\n\n* star *",
    "请解释一下快速排序。",
    "Explique la photosynthèse, s'il te plaît.",
    "1 / 2 cup of flour: how many grams?",
    '¿Qué es <div class="x"> en HTML?',
    "ما هي عاصمة فرنسا؟",
    "점심 메뉴 추천해줘",
    "Fix this:\n```\nif x_1 < y_2 & z:\n\tprint('<b>')\n```",
)
MODELS = ("Model: GPT-4", "Model: GPT-4", "Model: Default (GPT-3.5)", None)


@dataclass(frozen=True)
class Page:
    """One file, the reason for which it must be dropped (None: kept), and its true content."""

    name: str
    data: bytes
    reason: str | None
    messages: tuple[tuple[str, str], ...] = ()
    where: str = ""


@dataclass
class _Book:
    """Numbers the pages and remembers the ones that may be repeated."""

    chance: random.Random
    full: bool
    pages: list[Page] = field(default_factory=list)

    def name(self) -> str:
        return f"{len(self.pages):06d}.html"

    def messages(self) -> list[tuple[str, str]]:
        number = len(self.pages)
        found: list[tuple[str, str]] = []
        for turn in range(self.chance.randint(1, 3)):
            question = f"{self.chance.choice(QUESTIONS)} (no. {number}.{turn})"
            found += [("human", question), ("gpt", _answer(self.chance))]
        return found

    def add(
        self,
        items: list[tuple[str, str]],
        reason: str | None,
        truth: list[tuple[str, str]] | None = None,
        where: str = "page",
    ) -> None:
        model = self.chance.choice(MODELS)
        data = page(items, name=f"id{len(self.pages)}", model=model, full=self.full)
        kept = tuple(items if truth is None else truth)
        self.pages.append(Page(self.name(), data, reason, kept, where))

    def raw(self, data: bytes, reason: str) -> None:
        self.pages.append(Page(self.name(), data, reason, where="page"))


def _answer(chance: random.Random) -> str:
    """A document that says something: empty code blocks and rules alone are an empty answer."""
    # Formulas have no Markdown that a reader of CommonMark would show alike.
    text = chatgpt.FORMULA.sub("x", roundtrip.document(chance))
    return text if text.strip("`->\n ") else f"Nothing:\n\n{text}"


def page(
    items: list[tuple[str, str]],
    *,
    name: str | None = "abc",
    model: str | None = "Model: GPT-4",
    full: bool = False,
    answers_as_html: bool = True,
    age: str = "2023-04",
) -> bytes:
    """A page's bytes; answers are given as Markdown. `full`: with the shell around the data.

    `age` says how the answers' code blocks stood on ChatGPT's page (chatgpt.AGES).
    """
    values = [
        {
            "from": role,
            "value": chatgpt.page_html(text, age) if role == "gpt" and answers_as_html else text,
        }
        for role, text in items
    ]
    content: dict[str, Any] = {"title": "A chat", "avatarUrl": "", "items": values}
    if model is not None:
        content["model"] = model
    props: dict[str, Any] = {"content": content, "views": 3}
    if name is not None:
        props["id"] = name
    shown = [(item["from"], item["value"]) for item in values] if full else None
    return wrapped({"props": {"pageProps": props}, "page": "/c/[id]"}, shown=shown)


def wrapped(value: object, *, shown: list[tuple[str, str]] | None = None) -> bytes:
    """Any data in a page; `shown`: with the shell of a saved page that shows these messages."""
    data = json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
    before, after = "<head><title>ShareGPT: x</title></head><body>", ""
    if shown is not None:
        before, after = shell.around(data, shown)
    return (
        f'<!DOCTYPE html><html>{before}<script id="__NEXT_DATA__" type="application/json">'
        f"{data}</script>{after}</body></html>"
    ).encode()


def pages(count: int, *, seed: int = 1, full: bool = False) -> list[Page]:
    """About one page in three has something the rules must see; the order is by name."""
    book = _Book(random.Random(seed), full)
    kinds = list(_KINDS)
    while len(book.pages) < count:
        if book.chance.random() < 0.65:
            book.add(book.messages(), None)
        else:
            kinds[len(book.pages) % len(kinds)](book)
    return book.pages


def write(folder: Path, made: list[Page]) -> None:
    """The pages as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in made:
        (folder / entry.name).write_bytes(entry.data)


def _leading_gpt(book: _Book) -> None:
    rest = book.messages()
    book.add([("gpt", "What was said before"), *rest], None, rest)


def _trailing_human(book: _Book) -> None:
    rest = book.messages()
    book.add([*rest, ("human", "And then?")], None, rest)


def _pager(book: _Book) -> None:
    rest = book.messages()
    marks = ("2 / 2\n", "11 / 12\n\n", "2 / 2" if rest[0][1][0].isalpha() else "2 / 2\n")
    mark = book.chance.choice(marks)
    book.add([("human", f"{mark}{rest[0][1]}"), *rest[1:]], None, rest)


def _tail(book: _Book) -> None:
    rest = book.messages()
    tail = book.chance.choice(("Copy123 chars / 45 words", "\nShare Prompt"))
    book.add([("human", f"{rest[0][1]}{tail}"), *rest[1:]], None, rest)


def _blocked(book: _Book) -> None:
    rest = book.messages()
    book.add([*rest[:-1], ("gpt", f"{rest[-1][1]}\n\nI am made by **Open**AI.")], "blocked_word")


def _blocked_only_in_link(book: _Book) -> None:
    rest = book.messages()
    book.add([*rest[:-1], ("gpt", "See [this page](https://openai.com/x).")], None)


def _too_short(book: _Book) -> None:
    book.add([("gpt", "Hello"), ("human", "Hi")], "too_short")


def _twice_the_same(book: _Book) -> None:
    rest = book.messages()
    book.add([rest[0], *rest], "not_alternating")


def _empty(book: _Book) -> None:
    rest = book.messages()
    book.add([rest[0], ("gpt", ""), *rest], "empty_answer")


def _duplicate(book: _Book) -> None:
    earlier = next(entry for entry in reversed(book.pages) if entry.reason is None)
    book.add(list(earlier.messages), "duplicate")


def _not_html(book: _Book) -> None:
    book.raw(book.chance.choice((b"", b"\x89PNG\r\n\x1a\n\0\0", b"only words")), "not_html")


def _no_data(book: _Book) -> None:
    book.raw(b"<html><body><p>404: not found __NEXT_DATA__</p></body></html>", "no_data")


def _cut_off(book: _Book) -> None:
    whole = page(book.messages())
    book.raw(whole[: whole.index(b"items") + 40], "bad_json")


def _not_utf8(book: _Book) -> None:
    book.raw(page(book.messages()).replace(b"A chat", b"A \xff\xfe chat"), "not_utf8")


def _no_content(book: _Book) -> None:
    book.raw(wrapped({"props": {"pageProps": {"id": "x"}}}), "no_content")


_KINDS = (
    _leading_gpt,
    _trailing_human,
    _pager,
    _tail,
    _blocked,
    _blocked_only_in_link,
    _too_short,
    _twice_the_same,
    _empty,
    _duplicate,
    _not_html,
    _no_data,
    _cut_off,
    _not_utf8,
    _no_content,
)


def packed(data: bytes) -> bytes:
    """The same as `.gz`."""
    return gzip.compress(data, mtime=0)


def dump_rows(made: list[Page]) -> Iterator[dict[str, Any]]:
    """The kept pages as rows of a ShareGPT dump in Markdown."""
    for entry in made:
        if entry.reason is None:
            turns = [{"from": role, "value": text} for role, text in entry.messages]
            yield {"id": entry.name, "conversations": turns}
