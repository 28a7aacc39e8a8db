"""The attention of the engine's forward passes, as transformers lets a model be given one.

transformers' own repeats keys and values for every query head of a group, and computes packed
prompts as one square: here the heads of a group share what is stored, and every prompt attends to
its own part alone.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "openchat_slots"


class Attends(Protocol):
    """What a forward pass's queries [batch, heads, tokens, size] see of the stored keys and
    values; gives [batch, tokens, heads, size].
    """

    def attend(
        self, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None
    ) -> Tensor: ...


def install(model: PreTrainedModel) -> None:
    """Make a model attend through the `step` of its forward call; without one nothing changes."""
    model.set_attn_implementation(_NAME)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    step: Attends | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The attention of one layer, as transformers calls it; through `step` where there is one."""
    if step is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
    return step.attend(query, key, value, scaling), None


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def attend_rows(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    """One query a row [rows, heads, 1, size] over keys [rows, groups, positions, size]; `mask`
    [rows, 1, 1, positions] is true where a row may look. Gives [rows, 1, heads, size].
    """
    rows, heads, _, size = query.shape
    # A group's heads are the queries of one attention: nothing is repeated.
    grouped = query.reshape(rows, keys.shape[1], -1, size)
    found = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scaling)
    return found.reshape(rows, 1, heads, size)


def attend_span(
    query: Tensor, keys: Tensor, values: Tensor, window: int | None, scaling: float | None
) -> Tensor:
    """The last tokens [heads, tokens, size] of keys [groups, positions, size], each looking back
    at most `window` positions, itself included. Gives [tokens, heads, size].
    """
    heads, count, size = query.shape
    groups, end, _ = keys.shape
    grouped = query.reshape(groups, heads // groups, count, size)
    shape = (groups, heads // groups, end, size)
    start = end - count
    mask = None
    if start or (window is not None and window < end):
        seen = torch.ones(count, end, dtype=torch.bool, device=query.device)
        mask = seen.tril(start)
        if window is not None:
            mask &= seen.triu(start - window + 1)
    found = scaled_dot_product_attention(
        grouped,
        keys[:, None].expand(shape),
        values[:, None].expand(shape),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
    )
    return found.reshape(heads, count, size).transpose(0, 1)
