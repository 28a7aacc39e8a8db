"""Hypothesis strategies: Markdown documents as a model writes them, and hostile text."""

from __future__ import annotations

from hypothesis import strategies as st

_SHARDS = (
    r"""a word snake_case x_1 2*3 5 1. 10) - + # ## > | """
    r"""~ ~~ ` `` * ** _ __ \ \* & &amp; &lt; < """
    r"""<b> </p> <!-- [x] [a](b) ![i](u) ](u) [r]: ! $5 $ 你好 注意： 。 """
    r"""“x” é 😀 C# f(x) --- === ``` ~~~ : http://a.b www.x.y me@x.yz <http://a.b> """
    r"""1/2 100% (see) 'q' "q" a\b \n 0) 1) Ω ² ₂ … """
    r"""–  """
)
_WORDS = st.sampled_from(_SHARDS.split(" "))
_SOUP = st.text(alphabet="ab1 \n*_`~[]()<>!&;#-+=|\\.:$\"'你。\xa0", max_size=60)
_PLAIN = st.lists(
    st.sampled_from(["some", "plain", "words", "here", "and", "there", "你好", "café", "x", "y"]),
    min_size=1,
    max_size=6,
).map(" ".join)


def texts() -> st.SearchStrategy[str]:
    """One paragraph's text, thick with what means something in Markdown."""
    words = st.lists(_WORDS, min_size=1, max_size=12)
    glue = st.sampled_from([" ", " ", "", "\n"])
    return st.tuples(words, glue).map(lambda pair: pair[1].join(pair[0])) | _SOUP


def _inline(depth: int) -> st.SearchStrategy[str]:
    leaf = (
        _PLAIN
        | _WORDS
        | st.text(alphabet="a `b*|_<\\", min_size=1, max_size=8).map(_code)
        | st.sampled_from(["![pic](u.png)", '![p](u "t")', "\n"])
    )
    if depth == 0:
        return leaf
    inner = st.lists(_inline(depth - 1), min_size=1, max_size=3).map(" ".join)
    tight = st.lists(_inline(depth - 1), min_size=1, max_size=2).map("".join)
    return (
        leaf
        | inner.map(lambda text: f"**{text}**")
        | inner.map(lambda text: f"*{text}*")
        | tight.map(lambda text: f"_{text}_")
        | tight.map(lambda text: f"__{text}__")
        | inner.map(lambda text: f"~~{text}~~")
        | inner.map(lambda text: f"***{text}***")
        | inner.map(lambda text: f"[{text}](https://e.com/x_(y))")
        | inner.map(lambda text: f'[{text}](<u v> "ti*t*le")')
    )


def _code(text: str) -> str:
    ticks = "`"
    while ticks in text:
        ticks += "`"
    return f"{ticks} {text} {ticks}" if text.strip() else "`x`"


_TOP = st.sampled_from(["<https://e.com/a_b>", "word  \nword", "word\\\nword"])
_LINE = st.lists(_inline(2) | _TOP, min_size=1, max_size=5).flatmap(
    lambda parts: st.sampled_from([" ", " ", ""]).map(lambda glue: glue.join(parts))
)


def _fence(pair: tuple[str, str]) -> str:
    language, code = pair
    ticks = "```"
    while ticks in code:
        ticks += "`"
    return f"{ticks}{language}\n{code}\n{ticks}"


_CODE = st.tuples(
    st.sampled_from(["", "python", "c++", "objective-c", "C#"]),
    st.text(alphabet="ab \n\t`<&>*|\\~#-", max_size=40),
).map(_fence)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@st.composite
def _table(draw: st.DrawFn) -> str:
    width = draw(st.integers(1, 3))
    cell = _LINE.map(lambda text: _one_line(text).replace("|", "\\|"))
    row = st.lists(cell, min_size=width, max_size=width).map(
        lambda cells: f"| {' | '.join(cells)} |"
    )
    rule = st.lists(st.sampled_from(["---", ":-:", "--:", ":--"]), min_size=width, max_size=width)
    rules = draw(rule.map(lambda cells: f"| {' | '.join(cells)} |"))
    return "\n".join([draw(row), rules, *draw(st.lists(row, max_size=3))])


def _under(prefix: str, text: str) -> str:
    return "\n".join(prefix + line if line else prefix.rstrip() for line in text.split("\n"))


def _blocks(depth: int) -> st.SearchStrategy[str]:
    leaf = (
        _LINE
        | texts()
        | _CODE
        | _table()
        | st.tuples(st.integers(1, 6), _LINE).map(lambda p: f"{'#' * p[0]} {_one_line(p[1])}")
        | st.sampled_from(["---", "    indented code\n\n    more", "Set\n===", "[r]: /u", "* * *"])
    )
    if depth == 0:
        return leaf
    return leaf | documents(depth - 1).map(lambda text: _under("> ", text)) | _list(depth)


@st.composite
def _list(draw: st.DrawFn, depth: int) -> str:
    body = st.one_of(_LINE, _LINE, documents(depth - 1))
    items = draw(st.lists(body, min_size=1, max_size=4))
    number = draw(st.sampled_from([None, None, 0, 1, 1, 7, 99]))
    mark = draw(st.sampled_from("-*+")) if number is None else draw(st.sampled_from(".)"))
    glue = draw(st.sampled_from(["\n", "\n", "\n\n"]))
    lines: list[str] = []
    for index, item in enumerate(items):
        marker = f"{mark} " if number is None else f"{number + index}{mark} "
        box = draw(st.sampled_from(["", "", "", "[ ] ", "[x] "]))
        lines.append(marker + _under(" " * len(marker), box + item)[len(marker) :])
    return glue.join(lines)


def documents(depth: int = 2) -> st.SearchStrategy[str]:
    """Whole documents: paragraphs, lists, quotes, tables, code, nested in each other."""
    return st.lists(_blocks(depth), min_size=1, max_size=4).flatmap(
        lambda blocks: st.sampled_from(["\n\n", "\n\n", "\n"]).map(lambda glue: glue.join(blocks))
    )


def plain_documents() -> st.SearchStrategy[str]:
    """Documents as a model writes them: delimiters only where they delimit."""
    inline = st.one_of(
        _PLAIN,
        _PLAIN.map(lambda text: f"**{text}**"),
        _PLAIN.map(lambda text: f"*{text}*"),
        _PLAIN.map(lambda text: f"~~{text}~~"),
        _PLAIN.map(lambda text: f"**{text} `a_b*c` *{text}***"),
        _PLAIN.map(lambda text: f"[{text}](https://e.com/x_(y))"),
        st.text(alphabet="a `b*|_<[]\\", min_size=1, max_size=8).map(_code),
        st.sampled_from(
            [
                "snake_case",
                "2*3",
                "a < b",
                "C:\\x",
                "\\*args",
                "\\_x\\_",
                "5 * 6",
                "&lt;",
                "[1]",
                "#1",
                "<https://e.com/a_b>",
                "![pic](u.png)",
                "x\\\ny",
                "x\ny",
                "1.5",
                "- 1",
                "$5",
                "注意：",
            ]
        ),
    )
    line = st.lists(inline, min_size=1, max_size=5).map(" ".join)
    return _plain_blocks(line, 2)


def _plain_blocks(line: st.SearchStrategy[str], depth: int) -> st.SearchStrategy[str]:
    block = st.one_of(line, line, _CODE, line.map(lambda text: f"## {_one_line(text)}"))
    if depth:
        inner = _plain_blocks(line, depth - 1)
        bullets = st.lists(line | inner, min_size=1, max_size=4).flatmap(_as_list)
        block = st.one_of(block, bullets, inner.map(lambda text: _under("> ", text)))
    return st.lists(block, min_size=1, max_size=3).map("\n\n".join)


def _as_list(items: list[str]) -> st.SearchStrategy[str]:
    def written(shape: tuple[str, str]) -> str:
        glue, kind = shape
        marks = [
            f"{number}. " if kind == "1" else f"{kind} " for number in range(1, len(items) + 1)
        ]
        pairs = zip(marks, items, strict=True)
        return glue.join(mark + _under(" " * len(mark), text)[len(mark) :] for mark, text in pairs)

    return st.tuples(st.sampled_from(["\n", "\n\n"]), st.sampled_from("-*1")).map(written)
