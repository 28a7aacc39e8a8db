"""What is drawn, how often, and by which rules."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from openchat_cli.core.errors import UsageError
from openchat_cli.engine.sampling import RowSampler, sample
from openchat_cli.engine.settings import SamplingParams

LOGITS = torch.log(torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2]))


def shares(params: SamplingParams, logits: torch.Tensor = LOGITS, draws: int = 4000) -> list[float]:
    """How often each token comes."""
    row = RowSampler(params)
    counts = Counter(sample(logits[None], [row])[0] for _ in range(draws))
    return [counts[token] / draws for token in range(logits.shape[-1])]


def test_greedy_takes_the_best() -> None:
    assert sample(LOGITS[None], [RowSampler(SamplingParams(temperature=0))]) == [1]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(temperature=1, top_p=1, seed=0), [0.05, 0.4, 0.1, 0.25, 0.2]),
        # the fewest best tokens that hold 0.6: 0.4 + 0.25
        (SamplingParams(temperature=1, top_p=0.6, seed=0), [0, 0.615, 0, 0.385, 0]),
        (SamplingParams(temperature=1, top_p=0.0, seed=0), [0, 1, 0, 0, 0]),
        (SamplingParams(temperature=1, top_p=1, top_k=2, seed=0), [0, 0.615, 0, 0.385, 0]),
        # top-p of what top-k leaves: 0.4 / 0.65 is above 0.6
        (SamplingParams(temperature=1, top_p=0.6, top_k=2, seed=0), [0, 1, 0, 0, 0]),
        (SamplingParams(temperature=1, top_p=1, min_p=0.45, seed=0), [0, 0.471, 0, 0.294, 0.235]),
        (
            SamplingParams(temperature=0.5, top_p=1, seed=0),
            [0.0091, 0.5818, 0.0364, 0.2273, 0.1455],
        ),
    ],
)
def test_shares_are_those_of_the_rules(params: SamplingParams, expected: list[float]) -> None:
    assert shares(params) == pytest.approx(expected, abs=0.03)


def test_a_nucleus_wider_than_the_window_is_whole() -> None:
    flat = torch.zeros(1000)
    row = RowSampler(SamplingParams(temperature=1, top_p=0.9, seed=0))
    drawn = {sample(flat[None], [row])[0] for _ in range(6000)}
    assert 880 <= len(drawn) <= 902


def test_rows_keep_their_own_rules_and_numbers() -> None:
    flat = torch.zeros(3, 50)
    greedy = SamplingParams(temperature=0)
    seeded = SamplingParams(temperature=1, top_p=1, seed=4)
    alone = [sample(flat[:1], [row])[0] for row in [RowSampler(seeded)] for _ in range(8)]
    rows = [RowSampler(greedy), RowSampler(seeded), RowSampler(SamplingParams(seed=9))]
    among = [sample(flat, rows)[1] for _ in range(8)]
    assert among == alone


def test_penalties_and_biases_move_the_logits() -> None:
    params = SamplingParams(temperature=0, presence_penalty=0.5, frequency_penalty=0.25)
    row = RowSampler(params)
    logits = torch.tensor([[1.0, 0.9, 0.0]])
    # 1.0 | 0.25 after one use; 0.9 | 0.15; then token 0 again at 0.25, then 0.15 against 0.0
    assert [sample(logits, [row])[0] for _ in range(4)] == [0, 1, 0, 1]
    assert logits.tolist() == [[1.0, pytest.approx(0.9), 0.0]]
    biased = RowSampler(SamplingParams(temperature=0, logit_bias={2: 5.0}))
    assert sample(logits, [biased]) == [2]


def test_what_is_no_number_gives_none_for_its_row_only() -> None:
    logits = torch.stack([LOGITS, torch.full((5,), float("nan"))])
    rows = [RowSampler(SamplingParams(temperature=0)), RowSampler(SamplingParams(seed=1))]
    assert sample(logits, rows) == [1, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"max_tokens": 0},
        {"presence_penalty": 3},
        {"logit_bias": {1: 200.0}},
        {"stop": ("",)},
    ],
)
def test_params_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SamplingParams(**wrong)  # type: ignore[arg-type]  # wrong on purpose
