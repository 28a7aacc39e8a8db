"""The GPU's sampling draws what the CPU's draws; here both run on the CPU."""

from __future__ import annotations

import random

import pytest
import torch

from openchat_cli.engine import cuda_sampling, sampling
from openchat_cli.engine.sampling import RowSampler
from openchat_cli.engine.settings import SamplingParams

VOCAB = 3000


def some_params(rng: random.Random) -> SamplingParams:
    return SamplingParams(
        temperature=rng.choice([0.0, 0.3, 0.7, 1.0, 3.0]),
        top_p=rng.choice([0.0, 0.5, 0.9, 0.999, 1.0]),
        top_k=rng.choice([0, 0, 1, 40, 700, 10**30]),
        min_p=rng.choice([0.0, 0.0, 0.1]),
        seed=rng.randrange(1000),
        presence_penalty=rng.choice([0.0, 0.7]),
        frequency_penalty=rng.choice([0.0, -0.3]),
        repetition_penalty=rng.choice([1.0, 1.0, 1.3]),
        logit_bias=rng.choice([{}, {5: 3.0, 17: -100.0}]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_both_draw_the_same(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    params = [some_params(rng) for _ in range(rng.randint(1, 24))]
    prompt = [rng.randrange(VOCAB) for _ in range(30)]
    ours = [RowSampler(one, prompt) for one in params]
    theirs = [RowSampler(one, prompt) for one in params]
    for step in range(12):
        logits = torch.randn(len(params), VOCAB) * rng.choice([0.1, 1, 4])
        if step == 5:
            logits[0, 3] = float("nan")
        found = cuda_sampling.sample(logits.clone(), ours)
        assert found == sampling.sample(logits, theirs)
        assert (found[0] is None) == (step == 5)


@pytest.mark.parametrize("greedy", [True, False])
def test_the_host_waits_once(greedy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever brings numbers to the host goes through one of these."""
    params = SamplingParams(temperature=0 if greedy else 0.8, top_p=0.9, presence_penalty=0.5)
    rows = [RowSampler(params) for _ in range(5)]
    waits: list[str] = []
    for name in ("tolist", "item", "__bool__", "__int__", "__float__", "cpu", "nonzero"):
        original = getattr(torch.Tensor, name)

        def noting(*args: object, name: str = name, original: object = original) -> object:
            waits.append(name)
            return original(*args)  # type: ignore[operator]  # a method of Tensor

        monkeypatch.setattr(torch.Tensor, name, noting)
    for _ in range(3):
        cuda_sampling.sample(torch.randn(5, 3000) * 4, rows)
    assert waits == ["tolist"] * 3
