"""What of a human message is the page's own: a pager before it, and nothing else."""

from __future__ import annotations

import pytest

from openchat_cli.data.noise import human_text

PAGERS = {
    "2 / 2\nHello": "Hello",
    "2 / 2\n\n    indented\n": "    indented\n",
    "11 / 12\r\nx": "x",
    "2 / 2Write a poem": "Write a poem",
    "2 / 2I am": "I am",
    "2 / 2请解释": "请解释",
    "2 / 21 / 2 cup of flour": "1 / 2 cup of flour",
    "2 / 23 / 4 inch bolts": "3 / 4 inch bolts",
}
VERBATIM = (
    "1 / 2 cup of flour",
    "1 / 2cups",
    "1 / 2pi",
    "2 / 2nd",
    "2 / 22 apples",
    "2 / 21 / 2023 is a date",
    "2 / 21 / 23",
    "3 / 2\nis more than one",
    "3 / 4",
    "2 / 2 = 1",
    "2 / 2\n",
    "  lead\n\ttab  \n\n<b> _x_ *y* trailing  ",
    "2/2\nno spaces",
)


@pytest.mark.parametrize("text", PAGERS)
def test_a_pager_goes(text: str) -> None:
    assert human_text(text) == PAGERS[text]


@pytest.mark.parametrize("text", VERBATIM)
def test_all_else_stays(text: str) -> None:
    assert human_text(text) == text
