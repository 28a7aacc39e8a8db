"""Whether Markdown, shown as ChatGPT's page and converted back, still renders the same."""

from __future__ import annotations

import random
import re

from openchat_cli.data.html import to_markdown
from tests.data import chatgpt

_READER = chatgpt.reader()
_OURS = chatgpt.reader_of_html()
_EMPTY = re.compile(r"</(em|strong|del)><\1>|<(em|strong|del)>(\s*)</\2>")
_EMPHASIS = re.compile(r"<(/?)(em|strong|del)>")


def normal(html: str) -> str:
    """What a browser shows: tags and the white space around them in one spelling."""
    html = re.sub(r"<(/?)s>", r"<\1del>", html)
    html = re.sub(r"[ \t]*<br ?/?>\n?", "<br>", html).replace("<hr />", "<hr>")
    html = html.replace("<pre><code>", '<pre><code class="">').replace("&quot;", '"')
    html = re.sub(r'class="language-[^"]*`[^"]*"', 'class=""', html)
    html = re.sub(r"(?<!\n)(?<!\">)</code></pre>", "\n</code></pre>", html)
    parts = re.split(r"(<pre>.*?</pre>)", _once(html), flags=re.S)
    parts[::2] = map(_spaces, parts[::2])
    return "".join(parts)


def _spaces(html: str) -> str:
    """White space moved out of emphasis and links, and away from the edges of blocks."""
    html = re.sub(r"<a [^<>]*>(\s*)</a>", r"\1", html.replace("<p></p>", ""))
    html = re.sub(r"\s+", " ", html)
    html = re.sub(r"((?: |<br>)+)((?:</(?:a|em|strong|del)>)+)", r"\2\1", html)
    html = re.sub(r"((?:<(?:em|strong|del|a [^<>]*)>)+)((?: |<br>)+)", r"\2\1", html)
    html = re.sub(r"(<(?:p|h[1-6]|li|t[hd])\b[^<>]*>)(?: |<br>)+", r"\1", html)
    return re.sub(r"(?: |<br>)*( |<br>|</(?:p|h[1-6]|li|t[hd])>)", r"\1", html)


def _once(html: str) -> str:
    """The same without emphasis inside its own kind, or that ends where it begins again."""
    depth = {"em": 0, "strong": 0, "del": 0}

    def tag(match: re.Match[str]) -> str:
        name = match[2]
        depth[name] -= bool(match[1])
        kept = "" if depth[name] else match[0]
        depth[name] += not match[1]
        return kept

    while (once := _EMPTY.sub(r"\3", _EMPHASIS.sub(tag, html))) != html:
        html = once
    return html


_NO_BROWSER = re.compile(
    r"<a [^<>]*>(?:(?!</a>).)*<a |<a [^<>]*>\s*</a>|</code>(?:</?(?:em|strong|s)>)*<code>", re.S
)


def is_possible(markdown: str) -> bool:
    """Whether the way back can be exact: no link in a link, no empty one, no two codes in touch."""
    return _NO_BROWSER.search(_READER.render(markdown)) is None


def differs(markdown: str) -> bool:
    """Whether the way there and back changes what is shown."""
    shown = _READER.render(markdown)
    back = to_markdown(chatgpt.dressed(shown))
    return normal(shown) != normal(_OURS.render(back))


def looks_the_same(markdown: str, other: str) -> bool:
    """Whether ours renders as the source did; both without the space around them."""
    return normal(_OURS.render(markdown)) == normal(_READER.render(other))


def text_differs(text: str) -> bool:
    """The same for plain text in one paragraph."""
    shown = chatgpt.paragraph(text)
    return normal(shown) != normal(_OURS.render(to_markdown(shown)))


# Formulas stand between private characters, which chatgpt.page_html knows: \ue000 inline \ue001,
# \ue002 display \ue003.
_INLINE = (
    "plain words",
    "**bold**",
    "*emphasis*",
    "***both***",
    "**bold *and* more**",
    "~~gone~~",
    "`code`",
    "``a ` b``",
    "`a | b`",
    "`__init__`",
    "snake_case_name",
    "2*3*4",
    "5 * 6",
    r"\*stars\*",
    r"\_under\_ \_scores\_",
    r"a \< b",
    r"\<div> &amp;amp; &lt;b&gt;",
    "C:\\\\temp\\\\x",
    "[a link](https://example.com/a_b?c=1&d=2)",
    '[titled](https://example.com "a title")',
    "<https://example.com/x>",
    "![a picture](https://example.com/p.png)",
    "你好，**注意**：请看",
    "日本語 `コード` です",
    "مرحبا **بالعالم**",
    "emoji 😀👩‍👩‍👧",
    "Really\\![no](x)",
    "a\\`b and c\\`d",
    "line one\nline two",
    "hard  \nbreak",
    "100% #1 (a) [b] {c} & co.",
    "\ue000x_1 < \\frac{a}{b}\ue001",
    "\ue000a|b\ue001 costs 5 $",
    "\ue002\\sum_{i} x_i\ue003",
)
_STARTS = (
    "1\\. not a list",
    "\\- dash",
    "\\# no heading",
    "\\> no quote",
    "2023\\. A year",
    "\\+1",
)
_CODE = (
    "```python\ndef f(x):\n\n    return x_y < 1 and '&lt;'\n```",
    "```\nno language\n\n\n   indented\n```",
    "````markdown\n```js\nlet a = `b`;\n```\n````",
    "```c++\nstd::vector<int> v;  // a\tb\n```",
    "```\n```",
)


def document(chance: random.Random, depth: int = 0) -> str:
    """Markdown with everything that ChatGPT writes, nested at random."""
    return "\n\n".join(_block(chance, depth) for _ in range(chance.randint(1, 4 - depth)))


def _inline(chance: random.Random) -> str:
    return " ".join(chance.choice(_INLINE) for _ in range(chance.randint(1, 5)))


def _block(chance: random.Random, depth: int) -> str:
    kinds = ["text", "text", "start", "code", "heading", "table", "rule"]
    kinds += ["list", "list", "numbers", "loose", "quote"] if depth < 3 else []
    kind = chance.choice(kinds)
    if kind == "text":
        return _inline(chance)
    if kind == "start":
        return f"{chance.choice(_STARTS)} {_inline(chance)}"
    if kind == "code":
        return chance.choice(_CODE)
    if kind == "heading":
        words = _inline(chance).replace("  \n", " ").replace("\n", " ")
        return f"{'#' * chance.randint(1, 6)} {words}"
    if kind == "rule":
        return "---"
    if kind == "table":
        return _table(chance)
    if kind == "quote":
        return _under("> ", document(chance, depth + 1))
    return _list(chance, kind, depth)


def _list(chance: random.Random, kind: str, depth: int) -> str:
    number = chance.choice((1, 1, 1, 3, 9))
    items: list[str] = []
    for index in range(chance.randint(1, 4)):
        marker = f"{number + index}. " if kind == "numbers" else "- "
        body = _inline(chance) if kind != "loose" else document(chance, depth + 1)
        if kind != "loose" and depth < 2 and chance.random() < 0.3:
            inner = chance.choice((_CODE[0], "- x\n- y\n  - z", "1. one\n2. two"))
            body = f"{body}\n{inner}"
        indent = " " * len(marker)
        items.append(marker + _under(indent, body)[len(indent) :])
    return ("\n\n" if kind == "loose" else "\n").join(items)


def _under(prefix: str, text: str) -> str:
    return "\n".join(prefix + line if line else prefix.rstrip() for line in text.split("\n"))


def _table(chance: random.Random) -> str:
    width = chance.randint(1, 4)

    def row() -> str:
        cells = [chance.choice(_INLINE) for _ in range(width)]
        plain = [cell.replace("|", "\\|").replace("  \n", " ").replace("\n", " ") for cell in cells]
        return "| " + " | ".join(plain) + " |"

    rule = "| " + " | ".join(chance.choice(("---", ":-:", "--:")) for _ in range(width)) + " |"
    return "\n".join([row(), rule, *(row() for _ in range(chance.randint(0, 4)))])


_SHARDS = re.findall(
    r"\S+|(?<= )(?= )",
    "* ** _ __ ` `` [ ]( ]( ) < <b> & &amp; \\ 1. - # ~~ | ! ~~~ === --- + > 2) : \" ' $ "
    "word a b 5 x_y 你好 ， 。 😀 http://a.b/c <https://a.b> [l](u) [l]: **b** *a* | ( )  #  ",
)


def shards(chance: random.Random) -> str:
    """Text of one paragraph, thick with characters that mean something in Markdown."""
    picked = [chance.choice(_SHARDS) or chance.choice(" \n") for _ in range(chance.randint(1, 25))]
    glued = "".join(part + chance.choice(("", "", " ")) for part in picked)
    return re.sub(r"[ \t]*\n[ \t\n]*", "\n", glued).strip()
