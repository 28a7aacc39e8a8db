"""Markdown to HTML, ours, and to HTML again: properties, known truth, and real text."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from openchat_cli.data.html import to_markdown
from tests.data import chatgpt, hostile, measure, roundtrip, strategies

_FAST = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
_IN_CODE = re.compile("<code[^<>]*>[^<]*[\ue000\ue002]")
_SLOW = settings(_FAST, max_examples=5_000)


def _check_document(markdown: str) -> None:
    assume(roundtrip.is_possible(markdown))
    assert not roundtrip.differs(markdown)


def _check_text(text: str) -> None:
    text = re.sub(r"[ \t]*\n[ \t\n]*", "\n", text).strip(" \n")
    assert not text.strip() or not roundtrip.text_differs(text)


@_FAST
@given(strategies.plain_documents())
def test_documents_render_the_same(markdown: str) -> None:
    _check_document(markdown)


@_FAST
@given(strategies.texts())
def test_texts_render_the_same(text: str) -> None:
    _check_text(text)


@pytest.mark.slow
@_SLOW
@given(strategies.plain_documents())
def test_many_documents_render_the_same(markdown: str) -> None:
    _check_document(markdown)


@pytest.mark.slow
@_SLOW
@given(strategies.texts())
def test_many_texts_render_the_same(text: str) -> None:
    _check_text(text)


@pytest.mark.slow
def test_hostile_documents_mostly_render_the_same() -> None:
    """Delimiters piled on each other at random: not all of it has an exact form."""
    tries: list[bool] = []

    @_SLOW
    @given(strategies.documents())
    def count(markdown: str) -> None:
        assume(roundtrip.is_possible(markdown))
        tries.append(roundtrip.differs(markdown))

    count()
    assert len(tries) > 3000
    assert sum(tries) / len(tries) <= 0.02


def _score(count: int) -> measure.Score:
    score = measure.Score()
    for seed in range(count):
        chance = random.Random(seed)
        written = roundtrip.document(chance)
        if _IN_CODE.search(chatgpt.reader().render(written)):
            continue  # a page shows no formula there
        html = chatgpt.page_html(written, chance.choice(list(chatgpt.AGES)))
        measure.compare(score, written, to_markdown(html))
    return score


@pytest.mark.parametrize("count", [pytest.param(200), pytest.param(2000, marks=[pytest.mark.slow])])
def test_bars_on_pages_with_known_truth(count: int) -> None:
    score = _score(count)
    short = {
        kind: score.share(kind) for kind, bar in measure.BARS.items() if score.share(kind) < bar
    }
    assert not short, [miss for miss in score.misses if miss[0] in short][:3]
    assert all(score.tries[kind] >= count / 2 for kind in measure.BARS)


@pytest.mark.parametrize("count", [pytest.param(150), pytest.param(2000, marks=[pytest.mark.slow])])
def test_hostile_text_has_the_backslashes_it_needs_and_no_others(count: int) -> None:
    messages = [hostile.message(random.Random(seed)) for seed in range(count)]
    ours = [to_markdown(chatgpt.dressed(html)) for html in messages]
    wrong = [html for html, text in zip(messages, ours, strict=True) if hostile.differs(html, text)]
    needless = [text for text in ours if measure.needless(text)]
    assert wrong == []
    assert len(needless) / count < 0.005, needless[:3]


def test_formulas_are_found_among_the_dollars_of_hostile_text() -> None:
    for seed in range(150):
        html = hostile.message(random.Random(seed), formulas=True)
        assert measure.formulas(to_markdown(chatgpt.dressed(html))).count(
            "x_1 < \\frac{a}{b}"
        ) == html.count('<span class="math')


@pytest.mark.parametrize("age", chatgpt.AGES)
def test_code_is_exact_in_every_age_of_the_page(age: str) -> None:
    written = "Look:\n\n```python\ndef f(x):\n\n    return x < 1 and '&lt;'\n```\n\nDone."
    assert to_markdown(chatgpt.page_html(written, age)) == written


def _real(shared_data: Path) -> list[str]:
    answers: list[str] = []
    for name in ("sharegpt_en_506.jsonl", "sharegpt_zh_300.jsonl"):
        for line in (shared_data / "conversations" / name).read_text("utf-8").splitlines():
            turns = json.loads(line)["conversations"]
            answers += [turn["value"] for turn in turns if turn["from"] == "gpt"]
    assert len(answers) > 3000
    return answers


def test_real_answers_render_the_same(shared_data: Path) -> None:
    answers = _real(shared_data)
    assert sum(map(roundtrip.differs, answers)) / len(answers) <= 0.002


@pytest.mark.slow
def test_real_answers_have_no_needless_backslash(shared_data: Path) -> None:
    answers = _real(shared_data)
    ours = [to_markdown(chatgpt.page_html(answer)) for answer in answers]
    assert sum(measure.needless(text) > 0 for text in ours) / len(ours) < 0.005
