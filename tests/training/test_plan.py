from __future__ import annotations

import numpy as np
import pytest

from openchat_cli.core.errors import UsageError
from openchat_cli.training.plan import Plan, in_order, permutation


def lengths(count: int, context: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).lognormal(np.log(650), 1.0, count)
    return np.clip(drawn.astype(np.int64), 16, context)


def plan(sizes: np.ndarray, **changes: object) -> Plan:
    values = {"batch_size": 16, "epochs": 3, "seed": 7, "world_size": 2, "max_tokens": 2048}
    return Plan(sizes, **(values | changes))


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_every_step_but_the_last_has_the_batch_and_every_epoch_every_conversation(micro_batch):
    made = plan(lengths(101, 2048), micro_batch=micro_batch)
    assert made.steps == 19  # ceil(3 · 101 / 16)
    steps = [made.conversations(step) for step in range(made.steps)]
    assert [len(step) for step in steps] == [16] * 18 + [303 - 18 * 16]
    flat = [index for step in steps for index in step]
    for epoch in range(3):
        assert sorted(flat[epoch * 101 : (epoch + 1) * 101]) == list(range(101))
    assert flat[:101] != flat[101:202]


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 40])
def test_ranks_share_a_step_whatever_their_number(ranks, micro_batch):
    sizes = lengths(50, 2048)
    made = plan(sizes, world_size=ranks, micro_batch=micro_batch)
    alone = plan(sizes, world_size=1, micro_batch=micro_batch)
    for step in range(made.steps):
        assert made.conversations(step) == alone.conversations(step)
        dealt = [index for bins in made.step(step) for bin_ in bins for index in bin_.conversations]
        assert sorted(dealt) == sorted(made.conversations(step))
        assert all(len(bins) == ranks for bins in made.step(step))


def test_bins_stay_within_max_tokens_and_ranks_are_balanced():
    sizes = lengths(640, 2048)
    made = plan(sizes, batch_size=128, world_size=8)
    for step in range(made.steps):
        bins = made.step(step)
        for bin_ in (bin_ for row in bins for bin_ in row):
            assert bin_.slots == sizes[list(bin_.conversations)].sum() <= 2048
        loads = [sum(row[rank].slots for row in bins) for rank in range(8)]
        assert max(loads) <= 1.05 * min(loads)


@pytest.mark.parametrize("context", [2048, 8192])
def test_hardly_a_token_is_wasted(context):
    made = Plan(
        lengths(6000, context),
        batch_size=128,
        epochs=1,
        seed=0,
        world_size=8,
        max_tokens=max(8192, 2 * context),
    )
    assert made.of_one_epoch()[1] >= 0.99


def test_length_grouping_pads_less_than_chance():
    sizes = lengths(400, 2048)
    grouped = plan(sizes, micro_batch=2).of_one_epoch()[1]
    longest = sizes[: len(sizes) // 2 * 2].reshape(-1, 2).max(axis=1)
    by_chance = sizes.sum() / (2 * longest.sum())
    assert by_chance < grouped < 1.0


def test_the_order_never_changes_between_releases():
    assert permutation(8, seed=42, epoch=0).tolist() == [4, 2, 5, 0, 6, 1, 7, 3]
    assert permutation(8, seed=42, epoch=1).tolist() == [6, 7, 0, 3, 4, 5, 1, 2]


def test_permutations_look_random():
    orders = np.array([permutation(100, seed=1, epoch=epoch) for epoch in range(400)])
    assert abs(orders[:, 0].mean() - 49.5) < 5
    assert len({tuple(order) for order in orders.tolist()}) == 400


def test_a_conversation_longer_than_a_bin_is_refused():
    with pytest.raises(UsageError, match="record 2 has 3000 tokens"):
        plan(np.array([10, 3000, 20]))


def test_evaluation_goes_through_everything_once():
    sizes = lengths(37, 2048)
    rows = in_order(sizes, world_size=2, max_tokens=4096)
    dealt = [index for bins in rows for bin_ in bins for index in bin_.conversations]
    assert sorted(dealt) == list(range(37))


def test_a_million_conversations_are_planned():
    made = plan(lengths(1_000_000, 2048), batch_size=128, world_size=8, epochs=1, max_tokens=8192)
    assert len(made.conversations(0)) == 128
    assert made.step(made.steps - 1)


def test_epochs_end_where_all_has_been_seen():
    made = plan(lengths(10, 500), batch_size=4, epochs=2)
    assert [made.ends_epoch(step) for step in range(made.steps)] == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert made.epochs_done(made.steps) == 2.0
