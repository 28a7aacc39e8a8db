"""The benchmark's usual conversations are as thick with markup as the real ones they stand for."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks.parts import prose
from tests.data import chatgpt

_CODE = re.compile(r"<pre.*?</pre>", re.S)


def test_the_benchmark_s_usual_answers_have_the_density_of_real_ones() -> None:
    answers = [text for one in prose.conversations(150) for role, text in one if role == "gpt"]
    html = _CODE.sub("<pre>", "".join(map(chatgpt.page_html, answers)))
    thousands = sum(map(len, answers)) / 1000
    found = {
        name: len(re.findall(f"<{name.replace('td', 't[dh]')}[ >]", html)) / thousands
        for name in prose.DENSITY
    }
    assert found == pytest.approx(prose.DENSITY, rel=0.35)
    assert len(re.findall("<[a-z]", html)) / thousands == pytest.approx(8.1, rel=0.15)
    assert 1000 * thousands / len(answers) == pytest.approx(1314, rel=0.15)
