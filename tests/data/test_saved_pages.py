"""Saved pages of ChatGPT, of every layout, and the pages by which chats are shared."""

from __future__ import annotations

import json
import time
from html import escape
from pathlib import Path
from typing import Any

import pytest

from tests.data import chatgpt, generator
from tests.data.cleaning import cleaned, texts
from tests.data.test_export import branched

MARKDOWN = "Use **this**:\n\n```python\nif a < b:\n\n    print('<b>')\n```\n\n- one\n- two"
HUMAN = "What is <div> & co?\n\n    indented\n*star*"
URL = "https://chatgpt.com/c/0a1b2c3d-4e5f-6789-abcd-ef0123456789"

HEAD = (
    "<!DOCTYPE html>\n<!-- saved from url=(0057){url} -->\n"
    '<html><head><meta charset="UTF-8"><title>A chat</title><script>var a = "<div>";</script>'
    '</head><body><nav><a href="/c/another-chat-entirely">Another chat</a></nav><main>'
)
TAIL = (
    '</main><form><div contenteditable="true" id="prompt-textarea"><p><br></p></div></form></body>'
)


def saved(*turns: str, url: str = URL) -> bytes:
    return (HEAD.replace("{url}", url) + "".join(turns) + TAIL).encode()


def answer(markdown: str = MARKDOWN, slug: str = "gpt-4o", more: str = "") -> str:
    return (
        '<article data-testid="conversation-turn-2" data-turn="assistant"><h6 class="sr-only">'
        '<span>ChatGPT said:</span></h6><div class="agent-turn"><div dir="auto" '
        'data-message-author-role="assistant" data-message-id="m2" '
        f'data-message-model-slug="{slug}" class="flex">'
        f'<div class="flex w-full flex-col">{chatgpt.page_html(markdown)}</div></div>{more}'
        '<div class="flex justify-start"><button aria-label="Copy">Copy</button></div></div>'
        "</article>"
    )


def question(text: str = HUMAN, more: str = "") -> str:
    return (
        '<article data-testid="conversation-turn-1" data-turn="user"><h5 class="sr-only">You said:'
        '</h5><div data-message-author-role="user" data-message-id="m1" dir="auto">'
        f'<div class="user-message-bubble-color">{more}<div class="whitespace-pre-wrap">'
        f"{escape(text, quote=False)}</div></div></div></article>"
    )


def old_turn(html: str) -> str:
    return (
        '<div class="group w-full text-gray-800 dark:text-gray-100 border-b"><div class="flex p-4">'
        '<div class="w-[30px]"><img alt="user" src="a.png"></div><div class="relative flex">'
        '<div class="text-xs flex items-center"><button>&lt;</button><span>2 / 2</span></div>'
        '<div class="min-h-[20px] flex flex-col items-start gap-4 whitespace-pre-wrap">'
        f"{html}</div><div>Copy</div></div></div></div>"
    )


def late_2023(role: str, html: str) -> str:
    classes = "min-h-[20px] text-message flex whitespace-pre-wrap break-words"
    return (
        '<div data-testid="conversation-turn-3" class="w-full">'
        f'<div data-message-author-role="{role}" data-message-id="x" class="{classes}">{html}</div>'
        "</div>"
    )


LAYOUTS = {
    "now": (saved(question(), answer()), "gpt-4o"),
    "end of 2023": (
        saved(
            late_2023("user", f"<div>{escape(HUMAN, quote=False)}</div>"),
            late_2023("assistant", chatgpt.page_html(MARKDOWN)),
        ),
        None,
    ),
    "2023": (
        saved(
            '<div class="flex w-full items-center text-gray-500">Model: GPT-4</div>',
            old_turn(escape(HUMAN, quote=False)),
            old_turn(chatgpt.page_html(MARKDOWN)),
            '<script id="__NEXT_DATA__">{"props":{"pageProps":{"user":{}}}}</script>',
            url=URL.replace("chatgpt.com", "chat.openai.com"),
        ),
        "Model: GPT-4",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_saved_pages(tmp_path: Path, layout: str) -> None:
    page, model = LAYOUTS[layout]
    path = tmp_path / "page.html"
    path.write_bytes(page)
    (kept,), dropped = cleaned(path)
    assert dropped == []
    assert texts(kept) == [HUMAN, MARKDOWN]
    assert (kept["id"], kept["model"]) == (URL.rpartition("/")[2], model)


def test_an_answer_that_goes_on_after_a_tool(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    pill = (
        '<span data-testid="webpage-citation-pill"><a href="https://a.b"><span>A page</span></a>'
        "</span>"
    )
    first = answer("Let me look.", "gpt-5")
    second = answer("It rains.", "gpt-5-thinking").replace("It rains.", f"It rains.{pill}")
    path.write_bytes(saved(question("weather?"), first, second, question("and?")))
    (kept,), _ = cleaned(path)
    assert texts(kept) == ["weather?", "Let me look.\n\nIt rains."]
    assert kept["model"] == "gpt-5-thinking"


def test_a_page_with_a_picture_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(saved(question(more='<img alt="Uploaded image" src="x.png">'), answer()))
    _, (dropped,) = cleaned(path)
    assert (dropped["reason"], dropped["where"]) == ("not_text", "page, message 1")


# --- shared pages ---


def next_page(value: Any) -> bytes:
    return generator.wrapped({"props": {"pageProps": {"serverResponse": {"data": value}}}})


def stream_page(value: Any, pieces: int = 1) -> bytes:
    """The page's data as React Router streams it: each value once, by its place."""
    table: list[Any] = []

    def place(item: Any) -> int:
        if item is None:
            return -5
        at = len(table)
        table.append(None)
        if isinstance(item, dict):
            table[at] = {f"_{place(key)}": place(inner) for key, inner in item.items()}
        elif isinstance(item, list):
            table[at] = [place(inner) for inner in item]
        else:
            table[at] = item
        return at

    route = {"serverResponse": {"type": "data", "data": value}}
    place({"loaderData": {"root": {"x": None}, "routes/share.$shareId.($action)": route}})
    text = json.dumps(table) + '\nP7:["late"]\n'
    size = -(-len(text) // pieces)
    calls = "".join(
        "<script nonce='x'>window.__reactRouterContext.streamController.enqueue("
        f"{json.dumps(text[at : at + size])});</script>"
        for at in range(0, len(text), size)
    )
    return saved(calls, "<script>window.__reactRouterContext.streamController.close();</script>")


@pytest.mark.parametrize("pieces", [1, 7])
def test_shared_pages(tmp_path: Path, pieces: int) -> None:
    path = tmp_path / "page.html"
    linear = [{"message": None}, *list(branched()["mapping"].values())[2:3]]
    linear += list(branched()["mapping"].values())[-1:]
    shared = {**branched(), "linear_conversation": linear, "model": {"slug": "gpt-4"}}
    found = []
    for page in (next_page(branched()), next_page(shared), stream_page(shared, pieces)):
        path.write_bytes(page)
        (kept,), _ = cleaned(path)
        found.append((kept["id"], kept["model"], texts(kept)))
    assert found == [("c1", "gpt-4", ["hi", "**hello**"])] * 3


@pytest.mark.parametrize(
    "script",
    [
        'streamController.enqueue("[1,2',
        'streamController.enqueue("P1:[{}]\\n")',
        'streamController.enqueue("[{\\"_1\\":-5},\\"mapping\\"]")',
        'streamController.enqueue("[{\\"_1\\":0},\\"mapping\\"]")',
        'streamController.enqueue("[{\\"_1\\":999},\\"mapping\\"]")',
        'streamController.enqueue("[{\\"_x\\":[]},\\"mapping\\",{\\"_1\\":true}]")',
        "streamController.enqueue(" + json.dumps("[" * 100_000) + ")",
        "streamController.enqueue("
        + json.dumps(json.dumps([{"_1": 2}, "mapping", *([n] for n in range(3, 9000))])) + ")",
    ],
)  # fmt: skip
def test_streams_that_hold_no_conversation(tmp_path: Path, script: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.html").write_bytes(saved(f"<script>{script}</script>"))
    (folder / "good.html").write_bytes(saved(question(), answer()))
    kept, dropped = cleaned(folder)
    assert len(kept) == 1
    assert dropped[0]["reason"] in ("no_data", "no_content", "too_short")


# --- pages that are none ---


def test_pages_of_chatgpt_without_a_chat(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.html").write_bytes(saved(question(), answer()))
    (folder / "login.html").write_bytes(saved("<p>Log in</p>"))
    (folder / "words.html").write_bytes(saved("<p>data-message-author-role markdown prose</p>"))
    (folder / "cut.html").write_bytes(saved(question(), answer())[:-900])
    (folder / "latin.html").write_bytes(saved(question("\xe9")).decode().encode("latin-1"))
    (folder / "tag.html").write_bytes(saved('<div data-message-author-role="user" title="'))
    _, dropped = cleaned(folder)
    reasons = {row["source"]: row["reason"] for row in dropped}
    assert reasons.pop("cut.html") in ("too_short", "no_data")
    assert reasons == {
        "login.html": "no_data",
        "words.html": "no_data",
        "latin.html": "not_utf8",
        "tag.html": "no_data",
    }


def test_the_data_of_sharegpt_counts_before_the_page_around_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    inside = [("human", '"__NEXT_DATA__" </script> streamController.enqueue("["'), ("gpt", "x")]
    page = generator.page(inside, name="first")
    (folder / "a.html").write_bytes(page.replace(b"<body>", b"<body>" + question("no").encode()))
    kept, dropped = cleaned(folder)
    assert (kept[0]["id"], texts(kept[0])[0], dropped) == ("first", inside[0][1], [])


@pytest.mark.parametrize(
    "unit",
    [
        '<div data-message-author-role="user">',
        "<div ",
        '<a "',
        "<!--",
        "<script>",
        "</div>",
        "<div>",
    ],
)
def test_hostile_pages_take_no_time(tmp_path: Path, unit: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.html").write_bytes(saved(question(), answer()))
    body = unit * (1_500_000 // len(unit))
    (folder / "a.html").write_bytes(saved('<div data-message-author-role="user">', body))
    started = time.process_time()
    kept, _ = cleaned(folder)
    assert len(kept) == 1
    assert time.process_time() - started < 10
