"""Packed conversations give what each gives alone: loss and gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from openchat_cli.training import batches
from openchat_cli.training.dataset import TokenDataset
from openchat_cli.training.loss import LossHead, TrainedModel, weighted_loss
from openchat_cli.training.plan import Bin
from tests.training import data

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def token_dataset(records: list) -> TokenDataset:
    ids, masks = zip(*records, strict=True)
    offsets = np.cumsum([0, *map(len, ids)])
    return TokenDataset(
        np.concatenate(ids).astype(np.int32), np.concatenate(masks).astype(bool), offsets
    )


def reference(model, records: list) -> tuple[float, torch.Tensor]:
    """Σ token losses and gradients, one conversation at a time through transformers' own way."""
    model.set_attn_implementation("eager")
    total = 0.0
    for ids, mask in records:
        row = torch.tensor(ids)[None]
        labels = torch.where(torch.tensor(mask)[None], row, torch.tensor(-100))
        logits = model(input_ids=row, use_cache=False).logits
        loss = functional.cross_entropy(
            logits[0, :-1].float(), labels[0, 1:], ignore_index=-100, reduction="sum"
        )
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def gradients(model) -> torch.Tensor:
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("make", [data.llama, data.bigcode])
def test_a_bin_equals_its_conversations_one_by_one(make, packed, checkpointing):
    records = data.records(9)
    model = make()
    loss, slope = reference(model, records)
    batches.use_segments(model)
    if checkpointing:
        batches.checkpoint_layers(model)
    trained = TrainedModel(model).train()
    bin_ = Bin(tuple(range(9)), 0)
    batch = batches.build(token_dataset(records), bin_, packed=packed, by_mean=False, device=CPU)
    ours = trained(batch)
    ours.backward()
    assert ours.item() == pytest.approx(loss, rel=1e-6)
    assert (gradients(model) - slope).norm() <= 1e-6 * slope.norm()


def test_an_idle_bin_gives_a_zero_that_reaches_every_weight():
    model = data.llama()
    batches.use_segments(model)
    trained = TrainedModel(model).train()
    batch = batches.build(
        token_dataset(data.records(1)), Bin((), 0), packed=True, by_mean=False, device=CPU
    )
    loss = trained(batch)
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_reference_weights_make_the_mean_of_the_micro_batch():
    records = data.records(3)
    made = token_dataset(records)
    batch = batches.build(made, Bin((0, 1), 0), packed=False, by_mean=True, device=CPU)
    assert batch.weights.sum().item() == pytest.approx(1.0)
    assert batch.input_ids.shape == (2, max(len(records[0][0]), len(records[1][0])))


def test_what_would_mix_conversations_is_refused():
    made = token_dataset(data.records(3))
    batch = batches.build(made, Bin((0, 1, 2), 0), packed=True, by_mean=False, device=CPU)
    naive = batches.Batch(
        input_ids=batch.input_ids,
        position_ids=torch.arange(batch.input_ids.shape[1])[None],
        rows=batch.rows,
        targets=batch.targets,
        weights=batch.weights,
        segments=batch.segments,
        bounds=batch.bounds,
    )
    with pytest.raises(RuntimeError, match="begin anew"):
        batches.check(naive)
    states = torch.zeros(1, 2, 4, 8)
    with pytest.raises(RuntimeError, match="no mask"):
        batches.segment_attention(torch.nn.Identity(), states, states, states, torch.ones(1, 4))
    with pytest.raises(RuntimeError, match="no cache"):
        batches.segment_attention(
            torch.nn.Identity(), states[:, :, :1], states, states, None, segments=(2, 2)
        )


def test_block_mask_is_the_same_attention():
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8), torch.randn(1, 2, 30, 8)
    segments = (7, 1, 22)
    apart, _ = batches.segment_attention(
        torch.nn.Identity(), query, key, value, None, segments=segments
    )
    mask = batches._block_mask(segments, CPU)
    masked = batches._sdpa(query, key, value, None, 0.0, mask).transpose(1, 2)
    assert torch.allclose(apart, masked, atol=1e-6)
    ends = [0, *np.cumsum(segments)]
    assert all(mask[0, 0, a:b, a:b].tril().equal(mask[0, 0, a:b, a:b]) for a, b in pairwise(ends))
    assert mask.sum() == sum(n * (n + 1) // 2 for n in segments)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 700])
def test_the_chunked_head_equals_full_cross_entropy(rows, bias, monkeypatch):
    monkeypatch.setattr("openchat_cli.training.loss._CHUNK_BYTES", 4 * 300 * 64)
    torch.manual_seed(0)
    hidden = torch.randn(rows, 32, requires_grad=True)
    head = torch.nn.Linear(32, 300, bias=bias)
    targets, weights = torch.randint(300, (rows,)), torch.rand(rows)
    full = functional.cross_entropy(head(hidden), targets, reduction="none") @ weights
    inputs = [hidden, *head.parameters()]
    expected = torch.autograd.grad(full * 3, inputs)
    ours = LossHead(head)(hidden, targets, weights)
    found = torch.autograd.grad(ours * 3, inputs)
    assert ours.item() == pytest.approx(full.item(), rel=1e-6)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).norm() <= 1e-6 * theirs.norm()


def test_the_head_in_bf16_keeps_its_sums_in_fp32():
    torch.manual_seed(0)
    hidden = torch.randn(4096, 16, dtype=torch.bfloat16)
    weight = torch.randn(300, 16, dtype=torch.bfloat16)
    targets = torch.randint(300, (4096,))
    exact = functional.cross_entropy((hidden @ weight.t()).float(), targets, reduction="sum")
    ours = weighted_loss(hidden, weight, None, targets, torch.ones(4096))
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_frozen_weight_gets_no_gradient():
    hidden = torch.randn(5, 8, requires_grad=True)
    weight = torch.randn(10, 8)
    weighted_loss(hidden, weight, None, torch.zeros(5, dtype=torch.long), torch.ones(5)).backward()
    assert hidden.grad is not None and weight.grad is None
