"""Markdown of a model: formatted, and inert."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from openchat_cli.web.markdown import LONGEST, render


def parsed(text: str) -> BeautifulSoup:
    return BeautifulSoup(render(text), "html.parser")


def test_it_formats() -> None:
    table = "| x | y |\n|---|--:|\n| 1 | 2 |"
    page = parsed(f"# T\n\n1. *a*\n   - `b`\n\n{table}\n\n```py\nif a < b:\n```\n\n~~c~~")
    for name in ("ol", "ul", "em", "code", "table", "pre", "s"):
        assert page.find(name), name
    assert page.pre is not None and page.pre.text == "if a < b:\n"
    assert [cell.get("class") for cell in page.find_all("td")] == [None, ["n"]]
    assert page.h1 is None, "a model's headings are not the page's"
    assert page.select_one("p.h.h1") is not None


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <b onclick=x>b</b>",
        "<style>*{display:none}</style>",
        "<!-- --><svg/onload=x>",
        '```html" onmouseover="x\n<b>\n```',
        "| <i> |\n|---|\n| <u onfocus=x> |",
        "<div>\n\n*a*\n\n</div>",
    ],
)
def test_raw_html_is_text(text: str) -> None:
    page = parsed(text)
    allowed = {"p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "em"}
    assert {element.name for element in page.find_all(True)} <= allowed
    attributes = {name for element in page.find_all(True) for name in element.attrs}
    assert attributes <= {"class", "style"}
    assert "style" not in attributes


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "&#106;avascript:alert(1)",
        "data:text/html,<script>1</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//example.org",
        "\x01javascript:alert(1)",
    ],
)
def test_links_go_to_the_web_or_to_mail_only(url: str) -> None:
    for text in (f"[a]({url})", f"[a](<{url}>)", f"<{url}>", f"[a]\n\n[a]: {url}"):
        assert not parsed(text).find_all("a"), text


def test_good_links_stay_and_tell_nobody() -> None:
    link = parsed('[a](https://example.org/?q=1&r="2")').a
    assert link is not None
    assert link["href"] == "https://example.org/?q=1&r=%222%22"
    assert link["rel"] == ["noopener", "noreferrer", "nofollow"]
    assert parsed("<mailto:a@example.org>").a is not None


def test_images_are_named_and_not_loaded() -> None:
    page = parsed("![a <b> cat](https://example.org/track.png)")
    assert page.img is None
    assert page.text.strip() == "[image: a <b> cat]"
    assert "example.org" not in str(page)


@pytest.mark.parametrize("unit", ["[", "![", "*a ", "> ", "|a", "<", "`", "- ", "a**b", "x"])
@pytest.mark.timeout(60)  # a second or two; anything quadratic takes far longer
def test_a_hostile_megabyte_comes_to_an_end(unit: str) -> None:
    long, most = unit * (1_000_000 // len(unit)), unit * (LONGEST // len(unit))
    assert parsed(long).text == long
    render(most)
