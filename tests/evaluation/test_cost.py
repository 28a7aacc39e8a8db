"""The cost before a run: the estimate against counts by OpenAI's own vocabularies."""

from __future__ import annotations

import pytest

from openchat_cli.core.token_count import estimate_tokens
from openchat_cli.evaluation.cost import price_of

ENGLISH = (
    "A good compost heap needs roughly equal parts of green and brown material. Turn it every two "
    "weeks, keep it as moist as a wrung-out sponge, and it will be ready in about four months; in "
    "winter, decomposition slows down considerably."
)
CODE = (
    "def median(values: list[float]) -> float:\n    ordered = sorted(values)\n    middle = "
    "len(ordered) // 2\n    if len(ordered) % 2:\n        return ordered[middle]\n    return "
    "(ordered[middle - 1] + ordered[middle]) / 2\n"
)
CHINESE = (
    "堆肥需要大致等量的绿色和棕色材料。每两周翻动一次，保持像拧干的海绵一样湿润，"
    "大约四个月就可以使用；冬天分解会明显变慢。"
)


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"), [(ENGLISH, 49, 49), (CODE, 63, 62), (CHINESE, 52, 73)]
)
def test_the_estimate_is_near(text: str, o200k: int, cl100k: int) -> None:
    """The counts are tiktoken's; single texts of 50 tokens are off by more than long ones."""
    assert estimate_tokens(text) == pytest.approx(o200k, rel=0.15)
    assert estimate_tokens(text, "cl100k_base") == pytest.approx(cl100k, rel=0.15)


def test_prices() -> None:
    price = price_of("gpt-4o-2024-08-06")
    assert price is not None
    assert price.of(1_000_000, 1_000_000) == pytest.approx(12.5)
    assert price_of("gpt-4o") == price
    assert price_of("my-own-model") is None
