"""The shell of a page: one file, no network, a policy that lets only its own code run."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

from openchat_cli.core.jsonl import Json
from openchat_cli.web.html import Html, join, script_json, tag


def asset(package: str, name: str) -> str:
    """The text of a file in the `assets` folder of a package of this project."""
    return (resources.files(package) / "assets" / name).read_text("utf-8")


@functools.cache
def _base(name: str) -> str:
    return asset("openchat_cli.web", name)


def page(
    title: str,
    body: Html,
    *,
    css: str = "",
    script: str = "",
    data: Json = None,
    connect: str = "'none'",
    language: str = "en",
    tail: Html | None = None,
) -> Html:
    """A whole HTML document that runs `script`, shows `body` and may connect to `connect` only.

    Style and script are allowed by their hashes, so neither an inline handler nor a style
    attribute works, wherever it comes from. `data` becomes a JSON block with the id `data`. `tail`
    is what comes after the script, which then need not wait for it.
    """
    style, code = _base("base.css") + css, _base("base.js") + script
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(style, code, connect)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", _raw(style)),
    )
    block = Html("")
    if data is not None:
        block = tag("script", script_json(data), type="application/json", id="data")
    parts = [body, block, tag("script", _raw(code)), tail or Html("")]
    document = tag("html", head, tag("body", *parts), lang=language)
    return join([Html("<!doctype html>\n"), document, Html("\n")])


def policy_of(css: str, script: str, connect: str = "'none'") -> str:
    """The policy of a page with this style and script, for a server's header."""
    return policy(_base("base.css") + css, _base("base.js") + script, connect)


def policy(style: str, script: str, connect: str = "'none'") -> str:
    """The Content-Security-Policy under which this very style and script work, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"img-src data:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _raw(text: str) -> Html:
    """Style or script of our own: not escaped, so it must not hold what would end its element."""
    if "</" in text or "<!--" in text:
        raise ValueError("a style or script must hold neither '</' nor '<!--'")
    return Html(text)
