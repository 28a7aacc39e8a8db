"""What is drawn, how often, and by which rules."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch

from openchat_cli.core.errors import UsageError
from openchat_cli.engine.sampling import RowSampler, best_of, sample
from openchat_cli.engine.settings import SamplingParams

LOGITS = torch.log(torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2]))


def drawn(params: SamplingParams, logits: torch.Tensor, draws: int) -> list[int | None]:
    """One token for each of many requests that differ in their seeds."""
    rows = [RowSampler(dataclasses.replace(params, seed=seed)) for seed in range(draws)]
    return sample(logits.expand(draws, -1), rows)


def shares(params: SamplingParams) -> list[float]:
    """How often each token comes."""
    counts = Counter(drawn(params, LOGITS, 4000))
    return [counts[token] / 4000 for token in range(len(LOGITS))]


def test_greedy_takes_the_best() -> None:
    assert sample(LOGITS[None], [RowSampler(SamplingParams(temperature=0))]) == [1]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(temperature=1, top_p=1), [0.05, 0.4, 0.1, 0.25, 0.2]),
        # the fewest best tokens that hold 0.6: 0.4 + 0.25
        (SamplingParams(temperature=1, top_p=0.6), [0, 0.615, 0, 0.385, 0]),
        (SamplingParams(temperature=1, top_p=0.0), [0, 1, 0, 0, 0]),
        (SamplingParams(temperature=1, top_p=1, top_k=2), [0, 0.615, 0, 0.385, 0]),
        # top-p of what top-k leaves: 0.4 / 0.65 is above 0.6
        (SamplingParams(temperature=1, top_p=0.6, top_k=2), [0, 1, 0, 0, 0]),
        (SamplingParams(temperature=1, top_p=1, min_p=0.45), [0, 0.471, 0, 0.294, 0.235]),
        (
            SamplingParams(temperature=0.5, top_p=1),
            [0.0091, 0.5818, 0.0364, 0.2273, 0.1455],
        ),
    ],
)
def test_shares_are_those_of_the_rules(params: SamplingParams, expected: list[float]) -> None:
    assert shares(params) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=100, top_p=1, top_k=1),
        SamplingParams(temperature=100, top_p=1, min_p=1),
        SamplingParams(temperature=100, top_p=0, top_k=10**30),
        SamplingParams(temperature=100, top_p=0.9, top_k=3, min_p=1),
        SamplingParams(temperature=1e-5, top_p=1),
        SamplingParams(temperature=1e-6, top_p=1),
    ],
)
def test_limits_at_their_ends_leave_the_best(params: SamplingParams) -> None:
    assert set(drawn(params, LOGITS, 200)) == {1}


def test_a_token_ruled_out_never_comes() -> None:
    never = SamplingParams(temperature=2, top_p=1, logit_bias={1: -100, 3: -100})
    assert set(drawn(never, LOGITS, 500)) == {0, 2, 4}
    none = LOGITS.clone()
    none[[0, 2, 4]] = -float("inf")
    assert set(drawn(SamplingParams(temperature=5, top_p=1), none, 300)) == {1, 3}
    assert set(drawn(SamplingParams(temperature=5, top_k=4), none, 300)) == {1, 3}


def test_a_nucleus_wider_than_the_window_is_whole() -> None:
    flat = torch.zeros(1000)
    found = set(drawn(SamplingParams(temperature=1, top_p=0.9), flat, 6000))
    assert 880 <= len(found) <= 902


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


def test_a_repetition_penalty_counts_the_prompt_and_the_answer() -> None:
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    row = RowSampler(params, [0, 3])
    logits = torch.tensor([[1.0, 0.7, 0.4, -0.1]])
    # 0.5 for token 0, -0.2 for token 3; then 0.35 for token 1; then 0.2 for token 2
    assert [sample(logits, [row])[0] for _ in range(4)] == [1, 0, 0, 0]
    negative = torch.tensor([[-0.1, -0.15]])
    assert sample(negative, [RowSampler(params, [0])]) == [1]


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


@pytest.mark.parametrize("vocab", [5, 2047, 2048, 32000, 32002])
def test_the_best_is_found_wherever_it_is(vocab: int) -> None:
    logits = torch.randn(40, vocab + 3, generator=torch.Generator().manual_seed(1))[:, :vocab]
    logits[0, -1] = logits[1, 0] = 99
    logits[2, vocab // 2 :] = 99  # the first of equals
    logits[3, vocab - 2] = float("nan")
    logits[4] = -float("inf")
    best, tokens = best_of(logits)
    expected = logits.max(dim=-1)
    assert torch.equal(best.nan_to_num(7), expected.values.nan_to_num(7))
    assert tokens.tolist() == expected.indices.tolist()
