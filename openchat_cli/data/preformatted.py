"""What a `<pre>` of ChatGPT's page holds: the exact code, and the language from class or label."""

from __future__ import annotations

import re
from functools import lru_cache

from openchat_cli.data.dom import SPACE, TAG, attribute, decode

_BREAK = re.compile(r"<br\b[^<>]*+>")
_CODE = re.compile(r"<code(?=[\s>/])")
_HIDDEN = re.compile(r"<(button|svg)\b[^<]*+(?:<(?!/\1>)[^<]*+)*+</\1>")
_CLASS = re.compile(r"(?:^|\s)lang(?:uage)?-(\S+)")
# A language as a class of its own: `hljs javascript`, `javascript`; not the page's style names.
_BARE_CLASS = re.compile(r"[a-z][a-z0-9]*[+#]{0,2}|objective-c|plain-?text|visual-basic")
_STYLE = {"hljs", "code", "block", "flex", "grid", "prettyprint", "highlight", "prism", "shiki"}
_STYLE |= {"nohighlight", "container", "relative", "hidden", "rounded", "light", "dark", "chroma"}
LONGEST_LABEL = 40
# The button's words, in the languages that the page speaks.
_WORDS = (
    "Copy code|Copy|Copied!|复制代码|复制|複製程式碼|複製|コードをコピーする|コピーする|코드 복사|"
    "Copier le code|Copier|Copiar código|Copiar|Code kopieren|Kopieren|Copia codice|Copia|"
    "Копировать код|Копировать|Kodu kopyala|Kopyala|Kod kopieren|Kopiuj kod|Kopiuj|"
    "Sao chép mã|Sao chép|Salin kode|Salin|Code kopiëren|Kopiëren|نسخ الكود|Edit|编辑|編輯"
)
_COPY = re.compile(rf"\s*(?:{_WORDS})\s*$")
LONGEST_HEAD = 4000


def code_block(whole: str) -> tuple[str, str]:
    """(code, language) of a whole `<pre>` element.

    The code is exact, and every line of it has its end, the last one too. The language is the class
    of `<code>`, else the label in the block's head.
    """
    opening = TAG.match(whole)
    begin = opening.end() if opening else 0
    end = len(whole) - len("</pre>")
    tag = whole[:begin]
    found = _CODE.search(whole, begin, end)
    start = TAG.match(whole, found.start(), end) if found else None
    if start is None:
        text, label = _bare(whole[begin:end])
        return _with_last_end(text), _language(tag, "", label)
    last = whole.rfind("</code>", start.end(), end)
    code = whole[start.end() : last if last >= 0 else end]
    return _with_last_end(_text(code)), _language(tag, start[0], whole[begin : start.start()])


def _text(html: str) -> str:
    if "<" in html:
        if "<br" in html:
            html = _BREAK.sub("\n", html)
        html = TAG.sub("", html)
    return decode(html)


def _bare(html: str) -> tuple[str, str]:
    """(text, head) of a `<pre>` without `<code>`."""
    button = html.rfind("</button>")
    head = ""
    if button >= 0:
        rest = html[button:]
        within = re.match(r"(?:</[a-z]+>\s*)+", rest)
        cut = button + (within.end() if within else 0)
        head, html = html[:cut], html[cut:]
    return _text(_HIDDEN.sub("", html)).removeprefix("\n"), head


def _with_last_end(code: str) -> str:
    return code if not code or code.endswith("\n") else f"{code}\n"


def _language(pre: str, code: str, head: str) -> str:
    if len(pre) + len(code) + len(head) > LONGEST_HEAD:
        return _language_of(pre[:200], code[:200], head[-LONGEST_HEAD:])
    return _language_cached(pre, code, head)


def _language_of(pre: str, code: str, head: str) -> str:
    classes = attribute(code, "class") or attribute(pre, "class")
    match = _CLASS.search(classes)
    name = match[1] if match else _label(head) or _bare_class(classes)
    return name if len(name) <= LONGEST_LABEL and not re.search(r"[`\n]", name) else ""


_language_cached = lru_cache(maxsize=1024)(_language_of)


def _label(head: str) -> str:
    """The first words in a block's head, outside its buttons."""
    texts = (decode(text) for text in TAG.split(_HIDDEN.sub("", head)))
    return next((label for text in texts if (label := without_words(text))), "")


def without_words(text: str) -> str:
    """A label without the words of the button that follow it."""
    return _COPY.sub("", text).strip(SPACE)


def _bare_class(classes: str) -> str:
    names = [name for name in classes.split() if _BARE_CLASS.fullmatch(name)]
    names = [name for name in names if name not in _STYLE]
    return names[0] if len(names) == 1 else ""
