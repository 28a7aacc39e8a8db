"""Markdown dressed up as ChatGPT's web page showed it, with what the page adds around the text."""

from __future__ import annotations

import re
from html import escape, unescape

from markdown_it import MarkdownIt

_FENCE = re.compile(r'<pre><code(?: class="language-([^"]*)")?>(.*?)</code></pre>', re.S)
# A browser writes no line ends between blocks.
_BLOCK_END = re.compile(
    r"(</?(?:p|ul|ol|li|blockquote|h[1-6]|table|thead|tbody|tr|t[hd]|pre|hr)(?: [^<>]*)?>)\n"
)
_WORD = re.compile(r"\b(def|return|import|for|if|print|class|0|1|\"[^\"\n]*\")\b")

BUTTON = (
    '<button class="flex ml-auto gap-2"><svg stroke="currentColor" fill="none" viewBox="0 0 24 24" '
    'class="h-4 w-4"><path d="M16 4h2a2 2 0 0 1 2 2"></path><rect x="8" y="2"></rect></svg>'
    "Copy code</button>"
)
HEAD = "flex items-center relative text-gray-200 bg-gray-800 px-4 py-2 text-xs font-sans"


def reader() -> MarkdownIt:
    """CommonMark with GitHub's tables and strikethrough, raw HTML shown as text."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def reader_of_html() -> MarkdownIt:
    """The same, with raw HTML let through: what our own Markdown is read back with."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def page_html(markdown: str, age: str = "2023-04") -> str:
    """The `outerHTML` of ChatGPT's message element for this Markdown, as the page had it then."""
    return dressed(FORMULA.sub(_formula, reader().render(markdown)), age)


def paragraph(text: str) -> str:
    """Plain text as one paragraph of HTML."""
    return f"<p>{escape(text, quote=False)}</p>\n"


def dressed(html: str, age: str = "2023-04") -> str:
    """Plain rendered HTML as the page had it: heads, buttons and coloured words around code."""
    html = _BLOCK_END.sub(r"\1", html)
    html = _FENCE.sub(lambda match: _code_block(match, age), html)
    html = html.replace('<a href="', '<a target="_new" href="')
    html = html.replace("<br />", "<br>").replace("<hr />", "<hr>").replace("&quot;", '"')
    return f'<div class="markdown prose w-full break-words dark:prose-invert light">{html}</div>'


# How a block of code stood on the page; the words of the button follow the user's language.
_OLD = '<pre><div class="bg-black rounded-md mb-4"><div class="{head}">'
_NEW = '<div class="overflow-y-auto p-4" dir="ltr">'
AGES = {
    "2023-04": (
        _OLD + '<span class="">{label}</span>{button}</div><div class="p-4 overflow-y-auto">'
        '<code class="!whitespace-pre hljs{name}">{code}</code></div></div></pre>'
    ),
    "2023-03": (
        _OLD + '{button}</div><div class="p-4 overflow-y-auto">'
        '<code class="!whitespace-pre-wrap hljs{name}">{code}</code></div></div></pre>'
    ),
    "label only": (
        _OLD + "<span>{label}</span>{button}</div><div>"
        '<code class="!whitespace-pre hljs">{code}</code></div></div></pre>'
    ),
    "glued": '<pre><div>{label}Copy code<code class="hljs">{code}</code></div></pre>',
    "bare class": '<pre><code class="hljs {label}">{code}</code></pre>',
    "head outside": (
        '<div class="{head}"><span>{label}</span>{button}</div>'
        '<pre><code class="hljs">{code}</code></pre>'
    ),
    "2024": (
        '<pre class="!overflow-visible"><div class="contain-inline-size rounded-md relative">'
        '<div class="{head}">{label}</div><div class="sticky top-9"><div class="absolute"><div>'
        '<span class="" data-state="closed">{button}</span></div></div></div>'
        + _NEW
        + '<code class="!whitespace-pre hljs{name}">{code}</code></div></div></pre>'
    ),
    "2025": (
        '<pre class="overflow-visible!" data-start="1" data-end="9"><div class="rounded-2xl">'
        '<div class="{head}">{label}</div><div class="sticky top-9"><div><button class="flex" '
        'aria-label="复制">复制代码</button><button>编辑</button></div></div>'
        + _NEW
        + '<code class="whitespace-pre!{name}"><span>{code}</span></code></div></div></pre>'
    ),
}
# Between private characters, where no Markdown can misread the dollars of a text.
FORMULA = re.compile("\ue000([^\ue001]*)\ue001|\ue002([^\ue003]*)\ue003")


def _formula(match: re.Match[str]) -> str:
    return katex(match[1] or match[2], display=bool(match[2]))


def katex(tex: str, display: bool) -> str:
    """A formula, its TeX in HTML already."""
    inner = (
        '<span class="katex"><span class="katex-mathml"><math '
        'xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mi>x</mi><mo>=</mo></mrow>'
        f'<annotation encoding="application/x-tex">{tex}</annotation></semantics></math></span>'
        '<span class="katex-html" aria-hidden="true"><span class="base"><span class="strut" '
        'style="height:1em;"></span><span class="mord mathnormal">x</span></span></span></span>'
    )
    if display:
        inner = f'<span class="katex-display">{inner}</span>'
    kind = "display" if display else "inline"
    return f'<span class="math math-{kind}">{inner}</span>'


def _code_block(match: re.Match[str], age: str) -> str:
    language, code = match[1] or "", match[2]
    coloured = _WORD.sub(r'<span class="hljs-keyword">\1</span>', code.replace("&quot;", '"'))
    shape = AGES[age] if language else AGES["2023-04"]
    return shape.format(
        head=HEAD,
        label=escape(unescape(language)),
        button=BUTTON,
        name=f" language-{language}" if language else "",
        code=coloured,
    )
