"""The report in a real Chromium: hostile text stays inert, and the controls work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_cli.evaluation.report import build_report
from openchat_cli.evaluation.settings import ReportSettings
from tests.evaluation.report_rows import both, question, write_run
from tests.evaluation.test_report import HOSTILE, hostile_run
from tests.web.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

SHOWN = "[...document.querySelectorAll('.question:not([hidden])')].map(q => q.id)"


def page_of(run: Path) -> str:
    return build_report(ReportSettings(runs=(run,), bootstrap=200)).outputs[1].as_uri()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture
def small(tmp_path: Path) -> str:
    questions = [
        question("1", "cooking", "How long does rice take?"),
        question("2", "cooking", "Which pan for eggs?"),
        question("3", "travel", "Is the museum open on Mondays?"),
    ]
    judgments = [
        *both("1", (9, 5), (9, 5)),
        *both("2", (8, 6), (6, 8)),
        *both("3", (3, 7), (3, 8)),
    ]
    return page_of(write_run(tmp_path, questions, judgments))


def choose(browser: Browser, name: str, value: str) -> None:
    browser.run(
        f"(() => {{ const e = document.getElementById('{name}'); e.value = '{value}';"
        "e.dispatchEvent(new Event('change')); })()"
    )


def test_hostile_text_does_nothing(browser: Browser, tmp_path: Path) -> None:
    address = page_of(hostile_run(tmp_path))
    browser.open(address)
    browser.click("#all")  # open every question, so that everything is laid out
    for details in range(browser.run("document.querySelectorAll('details').length")):
        browser.run(f"document.querySelectorAll('details')[{details}].open = true")
    # Whatever could be clicked is clicked.
    browser.run("document.querySelectorAll('main *').forEach(e => e.click && e.click())")
    assert browser.run("typeof window.__xss") == "undefined"
    assert browser.run("location.href").split("#")[0] == address
    assert browser.run("document.querySelectorAll('h1').length") == 1
    assert browser.run("getComputedStyle(document.body).display") == "block"
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("document.querySelectorAll('.question').length") == len(HOSTILE)
    assert {url for url in browser.requests() if not url.startswith("data:,")} == {address}
    assert browser.complaints() == []


def test_filters_search_and_sorting(browser: Browser, small: str) -> None:
    browser.open(small)
    assert browser.run(SHOWN) == ["q-1", "q-2", "q-3"]
    choose(browser, "category", "cooking")
    assert browser.run(SHOWN) == ["q-1", "q-2"]
    choose(browser, "outcome", "conflict")
    assert browser.run(SHOWN) == ["q-2"]
    assert browser.run("document.getElementById('count').textContent") == "1 of 3"
    choose(browser, "category", "")
    choose(browser, "outcome", "")
    choose(browser, "sort", "gap")
    assert browser.run(SHOWN) == ["q-3", "q-1", "q-2"]
    browser.press("/")
    for letter in "museum":
        browser.press(letter)
    browser.call(
        "Runtime.evaluate", expression="new Promise(d => setTimeout(d, 300))", awaitPromise=True
    )
    assert browser.run(SHOWN) == ["q-3"]
    assert browser.complaints() == []


def test_a_click_opens_a_question_and_a_link_finds_it(browser: Browser, small: str) -> None:
    browser.open(small)
    browser.click("#q-2 > summary")
    assert browser.run("document.getElementById('q-2').open") is True
    assert browser.run("document.querySelector('#q-2 .two').offsetHeight") > 0
    browser.open(small + "#q-3")
    assert browser.run("document.getElementById('q-3').open") is True
    box = "document.getElementById('q-3').getBoundingClientRect()"
    assert browser.run(f"{box}.top < innerHeight && {box}.bottom > 0")


def test_keys_move_between_questions(browser: Browser, small: str) -> None:
    browser.open(small)
    at = "document.activeElement.parentElement.id"
    browser.press("j")
    assert browser.run(at) == "q-1"
    browser.press("j")
    browser.press("j")
    browser.press("k")
    assert browser.run(at) == "q-2"


def test_dark_mode_follows_the_system_until_chosen(small: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with Browser(dark=True) as browser:
        browser.open(small)
        dark = browser.run(background)
        browser.click("#theme")
        light = browser.run(background)
    assert (dark, light) == ("rgb(21, 24, 28)", "rgb(255, 255, 255)")


def test_print_opens_what_the_filters_show(browser: Browser, small: str) -> None:
    browser.open(small)
    choose(browser, "category", "cooking")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("[...document.querySelectorAll('.question')].map(q => q.open)") == [
        True,
        True,
        False,
    ]
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('.question[open]').length") == 0
    assert len(browser.call("Page.printToPDF")["data"]) > 10_000
