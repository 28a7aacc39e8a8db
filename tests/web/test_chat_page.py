"""The chat page over a real `openchat serve` of a tiny model, with real typing and clicks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.conftest import RunCli
from tests.serving.folders import model_folder
from tests.web.browser import CHROMIUM, Browser
from tests.web.pages import (
    CTRL,
    SHIFT,
    answered,
    begin,
    choose_file,
    downloads,
    fill,
    key,
    said,
    saved,
    say,
    texts,
    type_text,
    wait,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


def started(folder: Path, *options: object) -> tuple[subprocess.Popen[str], str]:
    """A server as a process, and the address of its page."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "openchat_cli", "serve", "--model-path", str(folder)),
            *("--max-slots", "4", "--json", "--quiet", *map(str, options)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the server did not start"
    return process, json.loads(line)["url"].removesuffix("v1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("page") / "tiny")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    process, url = started(folder, "--port", 0, "--max-tokens", 24, "--temperature", 0.6)
    yield url
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser(width=1200, height=800) as running:
        yield running


@pytest.fixture
def browser(chromium: Browser, address: str) -> Browser:
    begin(chromium, address)
    return chromium


def endless(browser: Browser) -> None:
    """Settings under which an answer goes on until it is stopped."""
    browser.click("#settings")
    fill(browser, "#set-max_tokens", "1900")
    browser.click("#close")


def test_a_message_is_typed_sent_and_answered(browser: Browser, address: str) -> None:
    wait(browser, "document.getElementById('model').textContent === 'openchat'")
    assert browser.run("document.activeElement.id") == "ask"
    type_text(browser, "Hello")
    key(browser, "Enter", SHIFT)
    type_text(browser, "world")
    assert browser.run("document.getElementById('ask').value") == "Hello\nworld"
    key(browser, "Enter")
    answered(browser)
    question, answer = said(browser)
    assert question == "Hello\nworld"
    assert answer
    assert browser.run("document.getElementById('ask').value") == ""
    assert texts(browser, ".turn.assistant h2") == ["openchat"]
    (stats,) = texts(browser, ".stats")
    assert re.search(r"\d+ \+ \d+ tokens · [\d.]+ tokens/s", stats), stats
    asked = {one for one in browser.requests() if not one.startswith("data:,")}
    paths = ("", "v1/models", "v1/chat/completions")
    assert asked == {address + path for path in paths}
    assert browser.complaints() == []


def test_the_policy_allows_the_page_itself_and_nothing_else(browser: Browser, address: str) -> None:
    got = httpx2.get(address)
    policy = got.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "connect-src 'self'" in policy
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", got.text)
    tried = """(() => {
      const found = [], attempt = (act) => { try { act(); } catch (e) { found.push(e.name); } };
      const parse = (text) => document.body.insertAdjacentHTML("beforeend", text);
      attempt(() => parse("<img src=x onerror='window.__xss=1'>"));
      attempt(() => parse("<script>window.__xss=1</" + "script>"));
      attempt(() => {
        const script = document.createElement("script");
        script.textContent = "window.__xss = 1";
        document.body.append(script);
      });
      return found;
    })()"""
    assert browser.run(tried)[:2] == ["TypeError", "TypeError"]
    time.sleep(0.1)
    assert browser.run("typeof window.__xss") == "undefined"


def test_stop_keeps_what_was_said_and_frees_the_slot(browser: Browser, address: str) -> None:
    endless(browser)
    for stop in (lambda: browser.click("#stop"), lambda: key(browser, "Escape")):
        browser.click("#ask")
        type_text(browser, "Go on")
        key(browser, "Enter")
        wait(browser, "!document.getElementById('stop').hidden")
        wait(browser, "[...document.querySelectorAll('.said')].at(-1).textContent.length > 20")
        assert httpx2.get(address + "health").json()["answering"] == 1
        stop()
        answered(browser)
        deadline = time.monotonic() + 2
        while httpx2.get(address + "health").json()["answering"]:
            assert time.monotonic() < deadline, "the slot is still taken"
        assert "stopped" in texts(browser, ".stats")[-1]
        assert len(said(browser)[-1]) > 20
    assert browser.run("document.querySelectorAll('.failed').length") == 0


def test_regenerate_keeps_both_answers(browser: Browser) -> None:
    say(browser, "Hello")
    first = said(browser)[1]
    browser.click(".turn.assistant [aria-label='Answer anew']")
    answered(browser)
    assert texts(browser, ".turn.assistant .versions") == ["2/2"]
    second = said(browser)[1]
    browser.click("[aria-label='The version before']")
    assert said(browser)[1] == first
    browser.click("[aria-label='The next version']")
    assert said(browser)[1] == second


def test_an_edited_message_begins_a_branch(browser: Browser) -> None:
    say(browser, "Hello")
    say(browser, "And more")
    assert len(said(browser)) == 4
    browser.click(".turn.user [aria-label='Edit the message']")
    browser.run("document.activeElement.select()")
    type_text(browser, "the world")
    key(browser, "Enter")
    answered(browser)
    assert said(browser)[0] == "the world"
    assert len(said(browser)) == 2
    browser.click("[aria-label='The version before']")
    assert said(browser)[0::2] == ["Hello", "And more"]
    browser.click(".turn.user [aria-label='Edit the message']")
    type_text(browser, "never mind")
    key(browser, "Escape")
    assert said(browser)[0] == "Hello"
    assert browser.run("document.querySelector('.edit')") is None


def test_settings_come_from_the_server_and_go_to_it(browser: Browser) -> None:
    browser.click("#settings")
    placeholders = "[...document.querySelectorAll('#panel input')].map(e => e.placeholder)"
    assert browser.run(placeholders)[1:4] == ["0.6", "0.9", "24"]
    fill(browser, "#set-seed", "5")
    fill(browser, "#set-max_tokens", "9")
    browser.click("#system")
    type_text(browser, "Be brief")
    browser.click("#close")
    say(browser, "Hello")
    browser.click(".turn.assistant [aria-label='Answer anew']")
    answered(browser)
    second = said(browser)[1]
    browser.click("[aria-label='The version before']")
    assert said(browser)[1] == second, "the same seed"
    assert "+ 9 tokens" in texts(browser, ".stats")[-1]
    assert "token limit reached" in texts(browser, ".stats")[-1]
    with_system = int(texts(browser, ".stats")[-1].split("·")[1].split("+")[0])
    key(browser, "k", CTRL)
    browser.click("#settings")
    assert browser.run("document.getElementById('system').value") == "Be brief"
    browser.run("document.getElementById('system').select()")
    type_text(browser, " ")
    browser.click("#close")
    say(browser, "Hello")
    assert int(texts(browser, ".stats")[-1].split("·")[1].split("+")[0]) < with_system


def test_a_wrong_setting_is_named_and_nothing_is_sent(browser: Browser) -> None:
    browser.click("#settings")
    fill(browser, "#set-temperature", "3")
    browser.click("#close")
    browser.click("#ask")
    type_text(browser, "Hello")
    key(browser, "Enter")
    wait(browser, "document.getElementById('notice').textContent.startsWith('Temperature: ')")
    assert browser.run("document.activeElement.id") == "set-temperature"
    assert browser.run("document.getElementById('ask').value") == "Hello"
    assert not [one for one in browser.requests() if one.endswith("completions")]
    browser.click("#reset")
    key(browser, "Escape")
    browser.click("#send")
    answered(browser)
    assert said(browser)[0] == "Hello"


def test_conversations_are_kept_renamed_and_deleted(browser: Browser, address: str) -> None:
    say(browser, "First one")
    key(browser, "k", CTRL)
    assert said(browser) == []
    say(browser, "Second one")
    assert texts(browser, "#chats .open") == ["Second one", "First one"]
    browser.open(address)
    assert texts(browser, "#chats .open") == ["Second one", "First one"]
    assert said(browser) == []
    browser.click("#chats li:nth-child(2) .open")
    assert said(browser)[0] == "First one"
    browser.click("#chats .current .rename")
    type_text(browser, "Mine")
    key(browser, "Enter")
    assert sorted(texts(browser, "#chats .open")) == ["Mine", "Second one"]
    assert texts(browser, "#title") == ["Mine"]
    browser.click("#chats .current .delete")
    assert texts(browser, "#chats .open") == ["Second one"]
    assert said(browser)[0] == "Second one"
    browser.click("#notice button")
    assert sorted(texts(browser, "#chats .open")) == ["Mine", "Second one"]
    browser.click("#chats .current .delete")
    browser.open(address)
    assert texts(browser, "#chats .open") == ["Second one"]


def test_what_is_exported_is_taken_by_data_clean(
    browser: Browser, tmp_path: Path, openchat: RunCli
) -> None:
    downloads(browser, tmp_path / "saved")
    browser.click("#settings")
    browser.click("#system")
    type_text(browser, "Be brief")
    browser.click("#close")
    say(browser, "Hello **world** & <b>all</b>")
    say(browser, "And 日本語 more?")
    shown = [
        *({"role": "system", "content": "Be brief"},),
        *browser.run("JSON.parse(Object.entries(localStorage).find(([k]) => k.startsWith("
        "'openchat.chat.'))[1]).nodes.map(({role, content}) => ({role, content}))"),
    ]  # fmt: skip
    browser.click("#export")
    file = saved(tmp_path / "saved")
    assert file.name == "chat-hello-world-b-all-b.jsonl"
    (row,) = map(json.loads, file.read_text("utf-8").splitlines())
    assert row["messages"] == shown
    assert row["model"] == "openchat"
    ended = openchat("data", "clean", file, "out", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["kept"] == 1, ended.stdout
    (kept,) = map(json.loads, (tmp_path / "out/conversations.jsonl").read_text().splitlines())
    assert [one["role"] for one in kept["messages"]] == [one["role"] for one in shown]
    assert kept["messages"][1]["content"] == "Hello **world** & <b>all</b>"
    assert kept["id"] == row["id"]


def test_conversations_are_imported(browser: Browser, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}]},
        {"items": [{"from": "human", "value": "Two"}, {"from": "gpt", "value": "**2**"}]},
        {"nothing": 1},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    choose_file(browser, file)
    wait(browser, "document.querySelectorAll('#chats li').length === 2")
    assert texts(browser, "#notice span")[0].startswith("2 conversations")
    assert "1 held no" in texts(browser, "#notice span")[0]
    assert said(browser) == ["One", "1"]
    say(browser, "Go on")
    assert len(said(browser)) == 4


def test_the_keyboard_alone_reaches_everything(browser: Browser) -> None:
    say(browser, "Hello")
    unnamed = """[...document.querySelectorAll('button, input, textarea, select')]
      .filter(e => !e.hidden && e.checkVisibility() && !(e.textContent.trim() || e.ariaLabel
        || e.labels?.length)).map(e => e.outerHTML)"""
    browser.click("#settings")
    assert browser.run(unnamed) == []
    browser.click("#close")
    assert browser.run("document.activeElement.id") == "settings"
    browser.run("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        key(browser, "Tab")
        reached.add(browser.run("document.activeElement.id || document.activeElement.textContent"))
        ring = browser.run("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none" or browser.run("document.activeElement === document.body")
    assert {"new", "ask", "settings", "export", "theme", "Regenerate", "Edit"} <= reached
    assert browser.run("document.getElementById('said').getAttribute('aria-live')") == "polite"
    assert texts(browser, "#said")[0].startswith("Answer: ")


def test_enter_that_ends_a_composition_does_not_send(browser: Browser) -> None:
    browser.click("#ask")
    browser.call("Input.imeSetComposition", text="に", selectionStart=1, selectionEnd=1)
    browser.run(
        "document.getElementById('ask').dispatchEvent(new KeyboardEvent('keydown',"
        "{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    key_229 = {"key": "Enter", "windowsVirtualKeyCode": 229}
    browser.call("Input.dispatchKeyEvent", type="rawKeyDown", **key_229)
    assert said(browser) == []
    browser.call("Input.insertText", text="日本")
    key(browser, "Enter")
    answered(browser)
    assert said(browser)[0] == "日本"


def test_dark_follows_the_system_until_chosen(address: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with Browser(dark=True) as dark:
        dark.open(address)
        night = dark.run(background)
        dark.click("#theme")
        day = dark.run(background)
        dark.open(address)
        assert dark.run(background) == day
    assert night == "rgb(21, 24, 28)" and day == "rgb(255, 255, 255)"


def test_a_phone(address: str) -> None:
    with Browser() as phone:
        phone.call(
            "Emulation.setDeviceMetricsOverride",
            width=360, height=640, deviceScaleFactor=2, mobile=True,
        )  # fmt: skip
        phone.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=1)
        begin(phone, address)
        wide = "document.documentElement.scrollWidth <= 360"
        small = """[...document.querySelectorAll('button')].filter(e => e.checkVisibility())
          .map(e => [e.textContent, e.getBoundingClientRect()])
          .filter(([_, b]) => b.width < 40 || b.height < 40).map(([t]) => t)"""
        say(phone, "x" * 300)
        assert phone.run(wide)
        assert phone.run(small) == []
        phone.click("#menu")
        wait(phone, "document.getElementById('side').getBoundingClientRect().left === 0")
        assert phone.run(wide)
        assert phone.run(small) == []
        phone.click("#new")
        wait(phone, "getComputedStyle(document.getElementById('side')).visibility === 'hidden'")
        phone.click("#settings")
        fill(phone, "#set-max_tokens", "5")
        assert phone.run(wide)
        assert phone.run(small) == []
        phone.click("#close")
        say(phone, "Hello")
        assert "+ 5 tokens" in texts(phone, ".stats")[-1]
        assert phone.complaints() == []


@pytest.mark.slow
def test_a_key_is_asked_for_and_forgotten_with_the_tab(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCHAT_API_KEYS", "sk-page")
    process, url = started(folder, "--port", 0, "--max-tokens", 8)
    try:
        with Browser() as browser:
            browser.open(url)
            wait(browser, "document.getElementById('notice').textContent.includes('API key')")
            assert browser.run("document.activeElement.id") == "key"
            type_text(browser, "sk-wrong")
            key(browser, "Enter")
            wait(browser, "document.getElementById('notice').textContent.includes('not know')")
            fill(browser, "#key", "sk-page")
            key(browser, "Enter")
            wait(browser, "document.getElementById('notice').hidden")
            assert texts(browser, "#model") == ["openchat"]
            say(browser, "Hello")
            assert said(browser)[1]
            assert "sk-page" not in browser.run("JSON.stringify({...localStorage})")
            assert "sk-page" in browser.run("JSON.stringify({...sessionStorage})")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_server_that_restarts_in_mid_answer(folder: Path, chromium: Browser) -> None:
    process, url = started(folder, "--port", 0)
    port = int(url.rstrip("/").rsplit(":", 1)[1])
    begin(chromium, url)
    endless(chromium)
    chromium.click("#ask")
    type_text(chromium, "Go on")
    key(chromium, "Enter")
    wait(chromium, "[...document.querySelectorAll('.said')].at(-1).textContent.length > 20")
    process.kill()
    process.communicate()
    wait(chromium, "!!document.querySelector('.failed')")
    assert "broke off" in texts(chromium, ".failed span")[0]
    kept = said(chromium)[1]
    assert len(kept) > 20
    wait(chromium, "document.getElementById('notice').textContent.includes('does not answer')")
    process, _ = started(folder, "--port", port, "--max-tokens", 8)
    try:
        wait(chromium, "document.getElementById('notice').hidden")
        fill(chromium, "#ask", " ")
        chromium.click("#settings")
        fill(chromium, "#set-max_tokens", "8")
        chromium.click("#close")
        chromium.click(".failed button")
        answered(chromium)
        assert chromium.run("document.querySelectorAll('.failed').length") == 0
        assert texts(chromium, ".turn.assistant .versions") == ["2/2"]
        chromium.click("[aria-label='The version before']")
        assert said(chromium)[1] == kept
    finally:
        process.kill()
        process.communicate()
