"""The chat page as a person uses it: keys with their modifiers, typing, waiting, downloads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.web.browser import Browser

ALT, CTRL, SHIFT = 1, 2, 8
_CODES = {"Enter": 13, "Escape": 27, "Tab": 9, "k": 75}


def wait(browser: Browser, condition: str, seconds: float = 20) -> None:
    """Until an expression is true."""
    deadline = time.monotonic() + seconds
    while not browser.run(condition):
        assert time.monotonic() < deadline, f"never came true: {condition}"
        time.sleep(0.02)


def key(browser: Browser, name: str, modifiers: int = 0) -> None:
    """One key, with modifiers."""
    pressed: dict[str, Any] = {"key": name, "modifiers": modifiers}
    pressed["windowsVirtualKeyCode"] = _CODES.get(name, 0)
    text = {"text": "\r"} if name == "Enter" else {}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **pressed)


def type_text(browser: Browser, text: str) -> None:
    """Type letter by letter where the focus is."""
    for letter in text:
        browser.press(letter)


def fill(browser: Browser, selector: str, text: str) -> None:
    """Click into a field, take all that is in it, and type instead."""
    browser.click(selector)
    browser.run(f"document.querySelector({json.dumps(selector)}).select()")
    type_text(browser, text)


def say(browser: Browser, text: str) -> None:
    """Send a message and wait for the end of the answer."""
    browser.click("#ask")
    browser.call("Input.insertText", text=text)
    key(browser, "Enter")
    answered(browser)


def answered(browser: Browser) -> None:
    """Until no answer is under way, and one is there."""
    wait(
        browser,
        "document.querySelector('.turn.assistant') && document.getElementById('stop').hidden",
    )


def texts(browser: Browser, selector: str) -> list[str]:
    """The text of every element that fits."""
    return list(
        browser.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)"
        )
    )


def said(browser: Browser) -> list[str]:
    """What is shown of the conversation, message by message."""
    return texts(browser, ".turn .said")


def downloads(browser: Browser, folder: Path) -> None:
    """Let the page save files there."""
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))


def saved(folder: Path) -> Path:
    """The one file that was downloaded."""
    deadline = time.monotonic() + 10
    while True:
        found = [path for path in folder.glob("*.jsonl") if path.stat().st_size]
        if found:
            return found[0]
        assert time.monotonic() < deadline, "nothing was saved"
        time.sleep(0.02)


def choose_file(browser: Browser, path: Path) -> None:
    """Give a file to the page's file field."""
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(path)])


def begin(browser: Browser, url: str) -> None:
    """The page, with nothing kept from before."""
    browser.open(url)
    browser.run("localStorage.clear(); sessionStorage.clear()")
    browser.events.clear()
    browser.open(url)
