"""Log-probabilities of tokens: the model's own, before temperature, penalties and biases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openchat_cli.engine.generation import TokenLogprob

# Rows of logits turned into probabilities at a time: 128 rows of 128,000 are 64 MiB.
_AT_ONCE = 128


def logprobs_of(logits: Tensor, tokens: Sequence[int], count: int) -> list[TokenLogprob]:
    """For each row of `logits` [rows, vocab] its token's, and those of the `count` best."""
    whole = logits.float().log_softmax(dim=-1)
    chosen = torch.tensor(tokens, device=logits.device)[:, None]
    own = whole.gather(-1, chosen)[:, 0].tolist()
    best, ids = whole.topk(min(count, whole.shape[-1]), dim=-1)
    tops = zip(ids.tolist(), best.tolist(), strict=True)
    return [
        TokenLogprob(token, value, tuple(zip(top_ids, top_values, strict=True)))
        for token, value, (top_ids, top_values) in zip(tokens, own, tops, strict=True)
    ]


def batches(rows: int) -> list[slice]:
    """Parts of that many rows that can be looked at without much memory."""
    return [slice(at, min(rows, at + _AT_ONCE)) for at in range(0, rows, _AT_ONCE)]
