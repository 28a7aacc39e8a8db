"""What stands around a ShareGPT page's data: a head, the chat as it is shown, styles, scripts.

A saved page is about five times its data. Of that one part is the chat once more, as elements; the
rest is what the site puts around each message, style sheets and inline scripts. The sizes are set
so that a parser of the whole page needs about 60 % of the time that the plain way of 2023 takes,
as was measured on saved pages; the benchmark prints both figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

TIMES = 5  # how much larger a page is than its data

_ICON = (
    '<svg stroke="currentColor" fill="none" stroke-width="1.5" viewBox="0 0 24 24" '
    'class="h-6 w-6" height="1em" width="1em"><path d="M12 20.25c4.97 0 9-3.694 9-8.25s-4.03-8.25-9'
    '-8.25S3 7.444 3 12c0 2.104.859 4.023 2.273 5.48.432.447.74 1.04.586 1.641"></path></svg>'
)
_HEAD = (
    '<meta charSet="utf-8"/><meta name="viewport" content="width=device-width"/>'
    '<title>ShareGPT: x</title><meta name="description" content="A chat"/>'
    '<meta property="og:site_name" content="sharegpt.com"/>'
    '<meta property="og:title" content="A chat"/><meta name="twitter:card" content="summary"/>'
    '<link rel="icon" href="/favicon.ico"/><link rel="preload" href="/_next/static/css/1a.css" '
    'as="style"/><link rel="stylesheet" href="/_next/static/css/1a.css" data-n-g=""/>'
    '<noscript data-n-css=""></noscript>'
) + "".join(
    f'<script src="/_next/static/chunks/{name}.js" defer=""></script>'
    for name in ("webpack-59c5", "framework-2c79", "main-5a0e", "pages/_app-0d1f", "pages/c/id")
)
_BEFORE = (
    '<body class="antialiased"><div id="__next"><header class="z-50 border-b px-4 py-2"><nav>'
    '<a class="flex items-center" href="/"><img alt="" src="/logo.png" width="30"/>'
    '<p class="font-bold">ShareGPT</p></a><a href="/explore">Explore</a>'
    f'<button class="bg-black rounded-full">{_ICON}<span>Install</span></button></nav></header>'
    '<main class="flex flex-col items-center pb-24">'
)
_AFTER = (
    f'</main><footer class="fixed bottom-5"><a href="/">{_ICON}<span>Make your own</span></a>'
    f'<button class="rounded-full">{_ICON}<span>Copy link</span></button></footer></div>'
)
# Style sheets that components bring, and the parts in which a server sends its data: either is one
# text to a parser, whatever its length.
_RULE = (
    ".mantine-{0:x}{{font-family:Inter,sans-serif;color:#343541;display:flex;padding:12px 16px;"
    "border-radius:4px;line-height:1.55}}.mantine-{0:x}:hover{{background-color:#f7f7f8}}"
)
_CHUNK = (
    '(self.__chunks=self.__chunks||[]).push([{0},{{"module":"components/message-{0}.js",'
    '"css":["/_next/static/css/{0:x}.css"],"async":true,"preload":false}}]);'
)


def around(data: str, items: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """What stands before and behind a data script; `items` are (role, text or HTML).

    Together with `data` it has TIMES the length of `data`, or more where the chat needs it.
    """
    shown = "".join(_shown(role, value) for role, value in items)
    body = f"{_BEFORE}{shown}{_AFTER}"
    rest = TIMES * len(data) - len(data) - len(_HEAD) - len(body)
    style = _filled(_RULE, rest // 2)
    chunks = _filled(_CHUNK, rest // 2)
    return (
        f'<head>{_HEAD}<style data-emotion="mantine">{style}</style></head>{body}',
        f"<script>{chunks}</script>",
    )


def _shown(role: str, value: str) -> str:
    """One message as the site shows it: a picture and the text."""
    picture = _ICON if role == "gpt" else '<img alt="" class="rounded-sm" src="/avatar.png"/>'
    if role != "gpt":
        value = f'<p class="whitespace-pre-wrap pb-2">{escape(value)}</p>'
    return f'<div class="group w-full flex gap-4 p-6 border-b">{picture}{value}</div>'


def _filled(pattern: str, size: int) -> str:
    one = len(pattern.format(0x1000))
    return "".join(pattern.format(0x1000 + number) for number in range(max(0, size) // one))
