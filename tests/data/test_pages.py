"""The data script of a page that holds very many things that look like it."""

from __future__ import annotations

import pytest

from openchat_cli.data import pages
from openchat_cli.data.candidates import RejectError
from tests.data import generator

DATA = b'<SCRIPT ID="__NEXT_DATA__">{"found": true}</SCRIPT>'
CROWDS = {
    "named in another attribute": b'<script data-x="__NEXT_DATA__">a</script>' * 20_000,
    "named in other letters": b'<script id=x data-n="__next_data__">a</script>' * 20_000,
    "references": b'<script id="&#95;x">a</script>' * 20_000,
    "in the text": b"__NEXT_DATA__ " * 80_000,
    "comments": b'<!-- <script id="__NEXT_DATA__">{}</script> -->' * 20_000,
}


@pytest.mark.parametrize("name", CROWDS)
@pytest.mark.timeout(30)  # a few tenths of a second
def test_the_one_is_found_in_a_crowd(name: str) -> None:
    assert pages.next_data(b"<html>" + CROWDS[name] + DATA) == {"found": True}


@pytest.mark.parametrize("start", [b"<script ", b"<script x='", b'<script id="__NEXT_DATA__" '])
@pytest.mark.timeout(30)
def test_starts_without_an_end_come_to_an_end(start: bytes) -> None:
    with pytest.raises(RejectError):
        pages.next_data(b"<html>" + start * 50_000)


@pytest.mark.parametrize("name", ["textarea", "TEXTAREA", "Title", "noScript"])
def test_a_script_that_is_only_text_is_none(name: str) -> None:
    decoy = f'<{name}><script id="__NEXT_DATA__">{{"found": false}}</script></{name}>'
    data = '<script id="__NEXT_DATA__">{"found": true}</script>'
    assert pages.next_data(f"<html>{decoy}{data}</html>".encode()) == {"found": True}


def test_the_data_of_a_page_is_the_same_inside_its_shell() -> None:
    turns = [("human", "What is `<b>`?"), ("gpt", "**Bold**, as `<!--` begins a comment.")]
    bare, full = (generator.page(turns, full=full) for full in (False, True))
    assert pages.next_data(full) == pages.next_data(bare)
    assert len(full) > 4 * len(bare)
