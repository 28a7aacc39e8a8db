"""Bins as tensors, and the attention that keeps packed conversations apart.

Packed: the conversations of a bin lie one after the other in a single row, positions begin anew
with each, and our attention, registered with transformers, looks at one segment at a time. The same
call with a cache or an attention mask would let conversations see each other without any error
(logits off by 0.7), so both are checked on every batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from openchat_cli.training.dataset import TokenDataset
from openchat_cli.training.plan import Bin

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "openchat_segments"
_BLOCK_MASK_TOKENS = 4096  # up to here one masked attention beats many small ones on a GPU


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch.

    `input_ids`, `position_ids` have shape [1, T] packed, [conversations, longest] padded.
    `rows` index the flattened positions whose next token is supervised, `targets` are those tokens,
    `weights` their share of the loss (float32); all three have shape [supervised tokens].
    `segments` are the conversations' lengths when packed, else None.
    """

    input_ids: Tensor
    position_ids: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor
    segments: tuple[int, ...] | None
    bounds: Tensor | None  # int32 [conversations + 1]: where segments begin and end


def build(
    data: TokenDataset, bin_: Bin, *, packed: bool, by_mean: bool, device: torch.device
) -> Batch:
    """The tensors of one bin on the device.

    A token counts by its weight in the dataset, 1 where it has none; `by_mean` divides by the sum
    of these in its micro-batch (the original's loss). An idle bin becomes two tokens of weight 0:
    every rank must take part in each collective of the backward pass.
    """
    records = [data.record(index) for index in bin_.conversations] or [_IDLE]
    width = 0 if packed else max(len(ids) for ids, _, _ in records)
    starts = _starts(records, width)
    size = sum(len(ids) for ids, _, _ in records) if packed else width * len(records)
    input_ids, positions = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    rows: list[np.ndarray[Any, Any]] = []
    targets: list[np.ndarray[Any, Any]] = []
    shares: list[np.ndarray[Any, Any]] = []
    for start, (ids, mask, weights) in zip(starts, records, strict=True):
        input_ids[start : start + len(ids)] = ids
        positions[start : start + len(ids)] = np.arange(len(ids))
        supervised = np.flatnonzero(mask[1:])
        rows.append(start + supervised)
        targets.append(ids[1:][supervised])
        if weights is None:
            shares.append(np.ones(len(supervised), dtype=np.float32))
        else:
            shares.append(weights[1:][supervised])
    if not any(map(len, rows)):
        rows, targets, shares = [np.zeros(1)], [np.zeros(1)], [np.zeros(1, dtype=np.float32)]
    share = np.concatenate(shares)
    if by_mean:
        share = share * (1.0 / (share.sum(dtype=np.float64) or 1.0))
    shape = (1, size) if packed else (len(records), width)
    segments = tuple(len(ids) for ids, _, _ in records) if packed else None

    def put(values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device, non_blocking=True)

    return Batch(
        input_ids=put(input_ids).view(shape),
        position_ids=put(positions).view(shape),
        rows=put(np.concatenate(rows)),
        targets=put(np.concatenate(targets)),
        weights=torch.from_numpy(share.astype(np.float32)).to(device, non_blocking=True),
        segments=segments,
        bounds=_bounds(segments, device) if segments is not None else None,
    )


_IDLE = (np.zeros(2, dtype=np.int32), np.zeros(2, dtype=np.bool_), None)


def _starts(records: list[Any], width: int) -> list[int]:
    if width:
        return [row * width for row in range(len(records))]
    ends = np.cumsum([len(ids) for ids, _, _ in records])
    return [0, *ends[:-1].tolist()]


def _bounds(segments: tuple[int, ...], device: torch.device) -> Tensor:
    ends = np.concatenate([[0], np.cumsum(segments)]).astype(np.int32)
    return torch.from_numpy(ends).to(device)


def use_segments(model: PreTrainedModel) -> None:
    """Give the model our attention; refuse one that would not go through it."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, segment_attention)
    model.set_attn_implementation(ATTENTION)
    if model.config._attn_implementation != ATTENTION:
        raise RuntimeError(f"{type(model).__name__} does not take an attention of ours")
    model.config.use_cache = False


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Keep only each layer's input and compute the rest again in the backward pass."""
    # transformers renamed it within 5.x, and warns about the old name.
    enable: Any = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The last hidden states of the model without its head, flattened to [positions, width]."""
    check(batch)
    output = model.base_model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        segments=batch.segments,
        bounds=batch.bounds,
    )
    if getattr(output, "past_key_values", None) is not None:
        raise RuntimeError("the model kept a cache: packed conversations would see each other")
    hidden: Tensor = output[0]
    return hidden.flatten(0, 1)


def check(batch: Batch) -> None:
    """A packed batch is one row of segments that fill it, each counted from 0."""
    if batch.segments is None:
        return
    rows, tokens = batch.input_ids.shape
    if rows != 1 or sum(batch.segments) != tokens or batch.bounds is None:
        raise RuntimeError("a packed batch must be one row, filled by its segments")
    if batch.position_ids[0, batch.bounds[:-1].long()].any():
        raise RuntimeError("positions must begin anew with each packed conversation")


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[int, ...] | None = None,
    bounds: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention inside each segment; [1, heads, T, width] in, [1, T, heads, width] out.

    Without `segments` each row of the batch is one conversation, padded on the right: causal
    attention keeps the padding from being seen.
    """
    if attention_mask is not None:
        raise RuntimeError("packed attention takes no mask")
    if segments is None or len(segments) == 1:
        return _causal(query, key, value, scaling, dropout).transpose(1, 2).contiguous(), None
    if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise RuntimeError("packed attention takes one row and no cache")
    varlen = _varlen() if query.is_cuda and dropout == 0.0 else None
    if varlen is not None and bounds is not None and query.dtype != torch.float32:
        return varlen(query, key, value, bounds, max(segments), scaling), None
    if query.is_cuda and query.shape[2] <= _BLOCK_MASK_TOKENS:
        mask = _block_mask(segments, query.device)
        out = _sdpa(query, key, value, scaling, dropout, mask)
        return out.transpose(1, 2).contiguous(), None
    parts = zip(
        *(torch.split(part, list(segments), dim=2) for part in (query, key, value)), strict=True
    )
    done = [_causal(q, k, v, scaling, dropout) for q, k, v in parts]
    return torch.cat(done, dim=2).transpose(1, 2).contiguous(), None


def _causal(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float
) -> Tensor:
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        is_causal=True,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    dropout: float,
    mask: Tensor,
) -> Tensor:
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _block_mask(segments: tuple[int, ...], device: torch.device) -> Tensor:
    owner = torch.repeat_interleave(
        torch.arange(len(segments), device=device), torch.tensor(segments, device=device)
    )
    same = owner[:, None] == owner[None, :]
    return same.tril_()[None, None]


Varlen = Callable[[Tensor, Tensor, Tensor, Tensor, int, float | None], Tensor]


def _varlen() -> Varlen | None:
    """torch's attention over segments of their own lengths, where this torch has one we know.

    Its signature moved between releases: `is_causal` became `window_size`, and grouped heads came
    later; what is missing is made up for here.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    call: Callable[..., Any] = varlen_attn
    known = inspect.signature(call).parameters
    causal: dict[str, Any]
    if "window_size" in known:
        causal = {"window_size": (-1, 0)}
    elif "is_causal" in known:
        causal = {"is_causal": True}
    else:
        return None

    def attend(
        query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None
    ) -> Tensor:
        extra = dict(causal)
        heads = query.shape[1] // key.shape[1]
        if "scale" in known:
            extra["scale"] = scale
        elif scale is not None:
            query = query * (scale * query.shape[-1] ** 0.5)
        if "enable_gqa" in known:
            extra["enable_gqa"] = heads > 1
        elif heads > 1:
            key, value = (part.repeat_interleave(heads, dim=1) for part in (key, value))
        flat = [part[0].transpose(0, 1).contiguous() for part in (query, key, value)]
        out: Tensor = call(*flat, bounds, bounds, longest, longest, **extra)
        return out[None]

    return attend
