"""Training tokens/s on CPU: packed batches against random and length-grouped padding.

    python tests/benchmarks/train.py [--conversations 96] [--width 128] [--layers 4] [--repeat 3]

One process, the same conversations, model and steps for all; real tokens are counted, padding is
not. The medians are printed as ratios, which hold from machine to machine better than rates do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openchat_cli.training import batches
from openchat_cli.training.dataset import TokenDataset
from openchat_cli.training.loss import TrainedModel
from openchat_cli.training.plan import Bin, Plan

VOCABULARY = 4096
CONTEXT = 1024
BATCH = 16


def conversations(count: int) -> TokenDataset:
    """Log-normal lengths around 150 tokens, as chats have; half of the tokens supervised."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(150), 1.0, count).astype(np.int64), 16, CONTEXT)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, VOCABULARY, offsets[-1], dtype=np.int32)
    return TokenDataset(ids, rng.random(offsets[-1]) < 0.5, offsets)


def micro_batches(data: TokenDataset, way: str) -> list[tuple[Bin, bool]]:
    """(bin, packed) of one epoch on one rank."""
    values: dict[str, Any] = {"batch_size": BATCH, "epochs": 1, "seed": 0, "world_size": 1}
    if way == "random padding":
        order = Plan(data.lengths, max_tokens=1 << 40, **values).conversations
        steps = range(-(-len(data) // BATCH))
        chosen = [order(step)[at : at + 4] for step in steps for at in range(0, BATCH, 4)]
        return [(Bin(tuple(part), 0), False) for part in chosen if part]
    micro = 4 if way == "length-grouped padding" else None
    plan = Plan(data.lengths, max_tokens=2 * CONTEXT, micro_batch=micro, **values)
    bins = [row[0] for step in range(plan.steps) for row in plan.step(step)]
    return [(bin_, micro is None) for bin_ in bins]


def seconds(trained: TrainedModel, data: TokenDataset, work: list[tuple[Bin, bool]]) -> float:
    """CPU time of forward and backward passes over all bins."""
    began = time.process_time()
    for bin_, packed in work:
        batch = batches.build(data, bin_, packed=packed, by_mean=False, device=torch.device("cpu"))
        trained(batch).backward()
        trained.zero_grad()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conversations", type=int, default=96)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    told = parser.parse_args()
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=told.width,
        intermediate_size=3 * told.width,
        num_hidden_layers=told.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
    )
    model = LlamaForCausalLM(config)
    batches.use_segments(model)
    trained = TrainedModel(model).train()
    data = conversations(told.conversations)
    ways = ("packed", "random padding", "length-grouped padding")
    work = {way: micro_batches(data, way) for way in ways}
    seconds(trained, data, work["packed"][:2])  # warm up
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(told.repeat):
        for way in ways:
            taken[way].append(seconds(trained, data, work[way]))
    rates = {way: len(data.ids) / statistics.median(taken[way]) for way in ways}
    result = {
        "benchmark": "train",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": len(data.ids),
        "tokens_per_cpu_second": {way: round(rate) for way, rate in rates.items()},
        "packed_over": {way: round(rates["packed"] / rates[way], 2) for way in ways[1:]},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
