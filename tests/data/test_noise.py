"""What of a human message is the page's own: a pager before it, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from openchat_cli.data.noise import human_text
from tests.data import cleaning, human

PAGERS = {
    "2 / 2\nHello": "Hello",
    "2 / 2\n\n    indented\n": "    indented\n",
    "11 / 12\r\nx": "x",
    "2 / 2Write a poem": "Write a poem",
    "2 / 2I am": "I am",
    "2 / 2请解释": "请解释",
    "2 / 21 / 2 cup of flour": "1 / 2 cup of flour",
    "2 / 23 / 4 inch bolts": "3 / 4 inch bolts",
    "2 / 2ที่": "ที่",
    "2 / 2`code` here": "`code` here",
    '2 / 2"Quoted" text': '"Quoted" text',
    "2 / 2<div> what?": "<div> what?",
    "2 / 2/imagine a cat": "/imagine a cat",
    "2 / 2😀 hi": "😀 hi",
}
VERBATIM = (
    "1 / 2 cup of flour",
    "1 / 2cups",
    "1 / 2pi",
    "1 / 2π",
    "1 / 2µm",
    '1 / 2" pipe',
    "1 / 2(x)",
    "1 / 2<x",
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


TAILS = {
    "do it  \n\nShare Prompt\n": "do it  ",
    "do it Copy1,234 chars / 1 word": "do it ",
}


@pytest.mark.parametrize("text", TAILS)
def test_the_words_after_a_text_go_with_their_line_ends(text: str) -> None:
    assert human_text(text) == TAILS[text]


def test_what_people_write_comes_out_as_it_was_written(tmp_path: Path) -> None:
    pairs = [human.text(random.Random(seed)) for seed in range(2000)]
    pages = [
        {
            "id": f"n{number}",
            "items": [
                {"from": "human", "value": saved},
                {"from": "gpt", "value": f"<p>{number}</p>"},
            ],
        }
        for number, (saved, _) in enumerate(pairs)
    ]
    kept, dropped = cleaning.cleaned_value(tmp_path, pages)
    assert dropped == []
    wrong = [
        (saved, cleaning.texts(row)[0])
        for row, (saved, written) in zip(kept, pairs, strict=True)
        if cleaning.texts(row)[0] != written
    ]
    assert wrong == []
