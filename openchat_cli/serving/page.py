"""The chat page at `/`: one file, which asks nothing but this server's own protocol."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from openchat_cli.core.jsonl import Json
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.web.html import Html, join, tag
from openchat_cli.web.shell import asset, page, policy_of

_SCRIPTS = ("chat_api.js", "chat_store.js", "chat_view.js", "chat_app.js")
_PACKAGE = "openchat_cli.serving"
_CONNECT = "'self'"


@dataclass(frozen=True)
class Field:
    """A number that a request may carry; `default` is what the server takes without it."""

    name: str
    label: str
    least: float | None = None
    most: float | None = None
    step: float | None = None  # None takes any number
    default: float | None = None
    about: str = ""


@functools.cache
def chat_page(settings: ServeSettings) -> Html:
    """The document; nothing in it depends on the model, which the page asks for."""
    css, script = _parts()
    data: Json = {"keys": bool(settings.api_keys)}
    title = "openchat"
    body = _body(settings)
    return page(title, body, css=css, script=script, data=data, connect=_CONNECT)


def headers() -> dict[str, str]:
    """What goes with the document: its policy, also for what a policy in the text can't say.

    `trusted-types 'none'` makes every way to parse a text as HTML throw.
    """
    more = "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    return {
        "Content-Security-Policy": f"{policy_of(*_parts(), _CONNECT)}; {more}",
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _parts() -> tuple[str, str]:
    """Style and script."""
    own = [asset(_PACKAGE, name) for name in _SCRIPTS]
    shared = asset("openchat_cli.web", "markdown.js")
    return asset(_PACKAGE, "chat.css"), "\n".join([shared, *own])


def fields(settings: ServeSettings) -> tuple[Field, ...]:
    """The panel's numbers, with the server's own defaults."""
    params = settings.sampling()
    return (
        Field("temperature", "Temperature", 0, 2, 0.05, params.temperature, "0: always the best"),
        Field("top_p", "Top p", 0, 1, 0.01, params.top_p, "the share of likely tokens drawn from"),
        Field("max_tokens", "Most new tokens", 1, None, 1, params.max_tokens),
        Field("seed", "Seed", None, None, 1, None, "the same one draws the same answer"),
        Field("top_k", "Top k", 0, None, 1, params.top_k, "0: off"),
        Field("min_p", "Min p", 0, 1, 0.01, params.min_p, "0: off"),
        Field("presence_penalty", "Presence penalty", -2, 2, 0.1, params.presence_penalty),
        Field("frequency_penalty", "Frequency penalty", -2, 2, 0.1, params.frequency_penalty),
        Field("repetition_penalty", "Repetition penalty", 0.01, 100, 0.01, 1, "1: off"),
    )


# --- the body ---


def _button(name: str, text: str, title: str = "", **attributes: str | bool) -> Html:
    return tag("button", text, type="button", id=name, title=title or None, **attributes)


def _body(settings: ServeSettings) -> Html:
    skip = tag("a", "Skip to the message", href="#ask", class_="skip")
    return join([skip, _bar(), _side(), _main(), _panel(settings)])


def _bar() -> Html:
    return tag(
        "header",
        _button("menu", "Chats", "Conversations", aria_expanded="false", aria_controls="side"),
        tag("h1", "New chat", id="title", dir="auto"),
        tag("span", "", id="model", class_="muted small"),
        tag("select", id="models", aria_label="Model", hidden=True),
        _button("export", "Export", "Save this conversation as JSONL"),
        _button("settings", "Settings", aria_expanded="false", aria_controls="panel"),
        _button("theme", "◐", "Light or dark", aria_label="Light or dark", hidden=True),
        class_="bar",
    )


def _side() -> Html:
    return tag(
        "nav",
        _button("new", "New chat", "Ctrl+K"),
        tag("ul", id="chats", aria_label="Conversations"),
        tag(
            "div",
            _button("export-all", "Export all", "Save every conversation as JSONL"),
            _button("import", "Import", "Read conversations from JSONL"),
            tag("input", type="file", id="file", accept=".jsonl,.json", hidden=True),
            class_="row",
        ),
        tag("p", "Kept in this browser only.", class_="muted small"),
        id="side",
        aria_label="Conversations",
    )


def _main() -> Html:
    ask = tag(
        "textarea",
        id="ask",
        rows=1,
        placeholder="Message",
        autocomplete="off",
        enterkeyhint="send",
        dir="auto",
        aria_describedby="keys",
    )
    keys = "Enter sends · Shift+Enter: new line · Esc stops · Ctrl+K: new chat"
    return tag(
        "main",
        tag("div", "", id="notice", class_="banner", role="alert", hidden=True),
        tag("div", "", id="log", role="log", aria_live="off", aria_label="Messages", tabindex=0),
        _button("latest", "Latest", "Scroll down to the latest text", hidden=True),
        tag(
            "form",
            tag("label", "Message", for_="ask", class_="hidden"),
            ask,
            tag("button", "Send", type="submit", id="send"),
            _button("stop", "Stop", "Esc", hidden=True),
            id="composer",
        ),
        tag("p", keys, id="keys", class_="muted small"),
        tag("p", "", id="said", class_="hidden", role="status", aria_live="polite"),
    )


def _panel(settings: ServeSettings) -> Html:
    system = tag("textarea", id="system", rows=4, dir="auto", aria_describedby="system-about")
    about = "Of this conversation; a new one begins with the one before."
    stop = tag("textarea", id="set-stop", rows=2, data_setting="stop", aria_describedby="stop-of")
    key = tag("input", type="password", id="key", autocomplete="off", spellcheck="false")
    return tag(
        "aside",
        tag("div", tag("h2", "Settings"), _button("close", "Close"), class_="row"),
        tag("div", tag("label", "API key", for_="key"), key, id="key-field", class_="field"),
        tag(
            "div",
            tag("label", "System prompt", for_="system"),
            system,
            tag("p", about, id="system-about", class_="muted small"),
            class_="field",
        ),
        tag("p", "What is empty is left to the server.", class_="muted small"),
        *(_field(field) for field in fields(settings)),
        tag(
            "div",
            tag("label", "Stop at", for_="set-stop"),
            stop,
            tag("p", "up to four texts, one a line", id="stop-of", class_="muted small"),
            class_="field",
        ),
        _button("reset", "Reset", "Leave everything to the server"),
        id="panel",
        aria_label="Settings",
        hidden=True,
    )


def _field(field: Field) -> Html:
    name = f"set-{field.name}"
    default = "none" if field.default is None else f"{field.default:g}"
    entry = tag(
        "input",
        type="number",
        id=name,
        data_setting=field.name,
        min=field.least,
        max=field.most,
        step=field.step or "any",
        placeholder=default,
        inputmode="decimal",
        aria_describedby=f"{name}-about" if field.about else None,
    )
    about = tag("p", field.about, id=f"{name}-about", class_="muted small") if field.about else ""
    return tag("div", tag("label", field.label, for_=name), entry, about, class_="field number")
