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


def page_html(markdown: str) -> str:
    """The `outerHTML` of ChatGPT's message element for this Markdown."""
    return dressed(reader().render(markdown))


def paragraph(text: str) -> str:
    """Plain text as one paragraph of HTML."""
    return f"<p>{escape(text, quote=False)}</p>\n"


def dressed(html: str) -> str:
    """Plain rendered HTML as the page had it: heads, buttons and coloured words around code."""
    html = _BLOCK_END.sub(r"\1", html)
    html = _FENCE.sub(_code_block, html)
    html = html.replace('<a href="', '<a target="_new" href="')
    html = html.replace("<br />", "<br>").replace("<hr />", "<hr>").replace("&quot;", '"')
    return f'<div class="markdown prose w-full break-words dark:prose-invert light">{html}</div>'


def _code_block(match: re.Match[str]) -> str:
    language, code = match[1] or "", match[2]
    coloured = _WORD.sub(r'<span class="hljs-keyword">\1</span>', code.replace("&quot;", '"'))
    named = f" language-{language}" if language else ""
    return (
        f'<pre><div class="bg-black rounded-md mb-4"><div class="{HEAD}"><span class="">'
        f'{escape(unescape(language))}</span>{BUTTON}</div><div class="p-4 overflow-y-auto">'
        f'<code class="!whitespace-pre hljs{named}">{coloured}</code></div></div></pre>'
    )
