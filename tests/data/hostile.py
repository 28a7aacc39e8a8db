"""HTML of answers whose text is thick with what means something in Markdown; the HTML is the truth.

One word in three is hostile, in every place where text can stand: paragraphs, items, headings,
cells, quotes, emphasis, links.
"""

from __future__ import annotations

import random
import re
from html import escape

from tests.data import chatgpt, roundtrip

_READER = chatgpt.reader_of_html()
_WORDS = re.findall(
    r"\S+",
    "the a function value returns list of items and then we sort them by key so that it works 你好 "
    "café x y name of file 42 result, done. (see) What? no: yes; “quoted” it's",
)
_PARTS = re.findall(
    r"\S+",
    "* ** *** _ __ ` `` ``` $ $$ [ ] < > # ## | ~ ~~ ~~~ \\ \\\\ & ! ( ) ]( ![ [] () *a* **b** _c_ "
    "__init__ `code` $x$ $5 [x](y) [x] [1]: ![i](u) <b> </div> <br> "
    "<!-- <?php <T> <x y a<b a->b &amp; &lt; &copy "
    "&nosuch; #1 # 1. 12. 3) 1) - + > = == === "
    "--- *** ~5 \\n \\* \\_ C:\\dir snake_case 2*3 a|b _private **kw *args f(*x) p->q i++ a_b_ "
    "http://a.b/c_d_e <http://a.b> me@x.yz <me@x.yz> a & b x<y>z :-: |---| \\[ \\( \\) \\] !x !! "
    "[^1] {a} 50% 1.5 10. 'a' \"b\" \\` *. .* ** , _. ~~a~~ ``x ]",
)


def words(chance: random.Random, most: int = 14) -> str:
    """A run of words, one in three of them hostile; now and then two stand without a space."""
    found: list[str] = []
    for _ in range(chance.randint(1, most)):
        word = chance.choice(_PARTS) if chance.random() < 1 / 3 else chance.choice(_WORDS)
        if chance.random() < 0.05:
            word += chance.choice(_PARTS)
        found.append(word)
    return " ".join(found)


def _inline(chance: random.Random, *, formulas: bool) -> str:
    parts: list[str] = []
    for _ in range(chance.randint(1, 4)):
        text = escape(words(chance), quote=False)
        kind = chance.random()
        if kind < 0.07:
            text = f"<strong>{text}</strong>"
        elif kind < 0.12:
            text = f"<em>{text}</em>"
        elif kind < 0.16:
            text = f"<code>{text}</code>"
        elif kind < 0.2:
            text = f'<a href="https://example.com/a_(b)?c=d&amp;e">{text}</a>'
        elif kind < 0.23 and formulas:
            text = chatgpt.katex("x_1 &lt; \\frac{a}{b}", display=False)
        elif kind < 0.25:
            text = f"<del>{text}</del>"
        parts.append(text)
    return chance.choice((" ", " ", "\n")).join(parts)


def _block(chance: random.Random, depth: int, *, formulas: bool) -> str:
    def line() -> str:
        return _inline(chance, formulas=formulas).replace("\n", " ")

    kind = chance.choice(("p", "p", "p", "h", "list", "list", "table", "quote", "code"))
    if kind == "h":
        level = chance.randint(1, 4)
        return f"<h{level}>{line()}</h{level}>\n"
    if kind == "list":
        name = chance.choice(("ul", "ol"))
        items = "".join(
            f"<li>{_inline(chance, formulas=formulas)}</li>\n" for _ in range(chance.randint(1, 5))
        )
        return f"<{name}>\n{items}</{name}>\n"
    if kind == "table":
        width = chance.randint(1, 4)
        rows = [
            "".join(f"<{name}>{line()}</{name}>\n" for _ in range(width))
            for name in ("th", *["td"] * chance.randint(1, 4))
        ]
        head, *body = (f"<tr>\n{row}</tr>\n" for row in rows)
        return f"<table>\n<thead>\n{head}</thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>\n"
    if kind == "quote" and depth < 2:
        return f"<blockquote>\n{_blocks(chance, depth + 1, formulas=formulas)}</blockquote>\n"
    if kind == "code":
        return f"<pre><code>{escape(words(chance), quote=False)}\n</code></pre>\n"
    return f"<p>{_inline(chance, formulas=formulas)}</p>\n"


def _blocks(chance: random.Random, depth: int, *, formulas: bool) -> str:
    count = chance.randint(1, 6 - 2 * depth)
    return "".join(_block(chance, depth, formulas=formulas) for _ in range(count))


def message(chance: random.Random, *, formulas: bool = False) -> str:
    """The plain HTML of one answer, as a renderer of Markdown writes it."""
    return _blocks(chance, 0, formulas=formulas)


def differs(html: str, markdown: str) -> bool:
    """Whether a message without formulas shows something else as that Markdown."""
    return roundtrip.normal(html) != roundtrip.normal(_READER.render(markdown))
