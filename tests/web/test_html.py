"""Text never becomes markup, whatever it holds."""

from __future__ import annotations

import json

import pytest
from bs4 import BeautifulSoup

from openchat_cli.web.html import Html, escape, identifier, join, script_json, tag, visible

HOSTILE = ["<b>", '"><script>', "</script>", "a & b", "' onclick='x", "<!--", "]]>", "&lt;"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_in_a_tag_and_in_an_attribute_comes_back_as_it_was(text: str) -> None:
    page = BeautifulSoup(tag("p", text, title=text), "html.parser")
    assert page.p is not None
    assert page.p.text == text
    assert page.p["title"] == text
    assert len(page.find_all(True)) == 1


def test_only_html_stays_markup() -> None:
    safe = tag("b", "x")
    assert tag("p", safe, "<i>") == "<p><b>x</b>&lt;i&gt;</p>"
    # Joined by hand it is a plain text again, and is escaped rather than trusted.
    assert tag("p", safe + "<i>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>"
    assert join([safe, "<"], " < ") == "<b>x</b> &lt; &lt;"
    assert isinstance(join([]), Html)


def test_attributes() -> None:
    assert tag("a", "x", class_="k", data_id=3, hidden=True, title=None, y=1.50, z=2.0) == (
        '<a class="k" data-id="3" hidden y="1.5" z="2">x</a>'
    )
    assert tag("meta", name="viewport") == '<meta name="viewport">'


def test_what_hides_or_reorders_text_is_spelt_out() -> None:
    assert visible("a\u202egnp.exe\u202c\x00\ud800b\tc\nمرحبا") == (
        "a[U+202E]gnp.exe[U+202C][U+0000][U+D800]b\tc\nمرحبا"
    )
    assert escape("\u2066<") == "[U+2066]&lt;"


def test_json_in_a_script_can_not_end_it() -> None:
    value = {"a": ["</script><!--", "\u2028&\ud800", 1, None]}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_identifiers() -> None:
    assert identifier("oc-001") == "oc-001"
    assert identifier('"> <x') == "-x"
    assert identifier("质问") == "-"
