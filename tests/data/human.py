"""What people write into a chat, as nasty as it comes, with the page's own words around it."""

from __future__ import annotations

import random
import re

# Split at single spaces: white space of other kinds is among them.
_WORDS = re.split(
    " ",
    "please fix this snake_case __init__ *args **kw <div class='x'> </b> &amp; &lt; a<b x>y ``` "
    "`code` $x$ $5 [link](url) ![i](u) \\n \\\\ C:\\dir # ## > | ~ ~~ 1. - + 1/2 2/2 100% @me e.g. "
    "你好 请解释 こんにちは 안녕 สวัสดี नमस्ते مرحبا café naïve 😀 👩‍👩‍👧 “quoted” "
    "don't Copy Share Prompt chars words (see) {a} [1] ?! ... -- Copy code \t \xa0 \u200b",
)
# Lines that look like a pager or like what follows a text, and are neither.
_LINES = (
    "1 / 2 cup of flour",
    "2 / 2 = 1",
    "2 / 2 is one",
    "3 / 4",
    "1 / 2cups",
    "1 / 2π",
    "2 / 2",
    "3 / 2",
    "10 / 10 would ask again",
    "2/2",
    "Click on Share Prompt",
    "Share Prompt",
    "Copy123 chars / 45 words",
    "Copy 12 chars / 3 words please",
)
_FIRST = tuple(line for line in _LINES if line not in ("2 / 2", "3 / 4"))
_LAST = tuple(line for line in _LINES if line[:5] not in ("Share", "Copy1"))
_GLUES = (
    "Write",
    "I am",
    "请解释",
    "¿Qué",
    "สวัสดี",
    "नमस्ते",
    "“Quoted”",
    "`code`",
    "[draft]",
    "@me",
    "ok",
)
_PAGERS = ("2 / 2\n", "11 / 12\n\n", "1 / 3\r\n", "\n2 / 2\n")
_TAILS = ("Share Prompt", "\nShare Prompt", "\n\nShare Prompt\n", "Copy123 chars / 45 words")
_TAILS += ("\nCopy1 chars / 1 words", "Share PromptCopy99 chars / 9 words", "Share Prompt\n\n")
_EDGES = ("", "", "", " ", "\t", "    ", "  \n", "\n", "\n\n", "\r\n")


def _line(chance: random.Random) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(chance.randint(1, 9)))


def text(chance: random.Random) -> tuple[str, str]:
    """(what was saved, what was written)."""
    lines = [
        chance.choice(("", "    ", "\t", "  ")) + _line(chance)
        if chance.random() < 0.8
        else chance.choice(_LINES)
        for _ in range(chance.randint(0, 5))
    ]
    first = chance.choice((*_FIRST, *(_line(chance) for _ in range(20))))
    last = chance.choice((*_LAST, *(f"{_line(chance)} end" for _ in range(20))))
    noise = chance.random()
    written = "\n".join([first, *lines, last])
    if noise < 0.2:
        glued = f"{chance.choice(_GLUES)} {written}"
        return f"{chance.choice(('2 / 2', '6 / 6', '1 / 3'))}{glued}", glued
    if noise < 0.4:
        # Empty lines behind a pager are its own.
        indented = chance.choice(("", "    ", "\t")) + written.lstrip()
        return chance.choice(_PAGERS) + indented, indented
    if noise < 0.6:
        return written + chance.choice(_TAILS), written
    return (whole := chance.choice(_EDGES) + written + chance.choice(_EDGES)), whole
