"""The loss head: cross-entropy on the supervised rows only, a chunk of the vocabulary's logits at a
time.

The gradients are made in the forward pass, so that no logits live on until the backward pass and a
partitioned weight (ZeRO-3) is needed once. They equal those of full cross-entropy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from openchat_cli.training.batches import Batch, hidden_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHUNK_BYTES = 64 * 2**20  # of float32 logits at a time


class _ChunkedLoss(torch.autograd.Function):
    """Σ weight · −log softmax(hidden · Wᵀ + b)[target] over rows, as one scalar."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, share: Tensor
    ) -> Tensor:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = None
        if bias is not None and needs_bias:
            grad_bias = torch.zeros_like(bias, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for rows in _chunks(len(hidden), weight.shape[0]):
            part, wanted, scale = hidden[rows], target[rows], share[rows, None]
            logits = nn.functional.linear(part, weight, bias).float()
            norm = torch.logsumexp(logits, dim=-1, keepdim=True)
            chosen = logits.gather(1, wanted[:, None])
            total += ((norm - chosen) * scale).sum()
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            # d loss / d logits = weight · (softmax − one-hot)
            slope = logits.sub_(norm).exp_()
            slope.scatter_add_(1, wanted[:, None], torch.full_like(chosen, -1.0))
            slope = slope.mul_(scale)
            if grad_bias is not None:
                grad_bias += slope.sum(0)
            low = slope.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = low @ weight
            if grad_weight is not None:
                grad_weight += low.t() @ part
        ctx.save_for_backward(
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if bias is None or grad_bias is None else grad_bias.to(bias.dtype),
        )
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grads = (None if grad is None else grad * outer[0] for grad in ctx.saved_tensors)
        return (*grads, None, None)


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, _CHUNK_BYTES // (4 * vocabulary))
    return [slice(at, at + size) for at in range(0, rows, size)]


def weighted_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor
) -> Tensor:
    """Σ weights · cross-entropy (nats) of rows [n, width] under a head [vocabulary, width]."""
    total: Tensor = _ChunkedLoss.apply(hidden, weight, bias, targets, weights)  # type: ignore[no-untyped-call]  # torch has no types for it
    return total


class LossHead(nn.Module):
    """Stands in the place of a model's output layer, with the same parameters, and gives a loss.

    It is a module of its own so that DeepSpeed gathers the weight around its call (ZeRO-3).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return weighted_loss(hidden, self.weight, self.bias, targets, weights)


class TrainedModel(nn.Module):
    """A causal language model whose forward pass is its loss: Batch -> Σ weight · token loss."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        head: object = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers has no types for it
        if not isinstance(head, nn.Linear):
            raise RuntimeError(f"{type(model).__name__} has no linear output layer")
        name = next(name for name, module in model.named_modules() if module is head)
        model.set_submodule(name, LossHead(head))
        self.model = model
        self._head_name = name

    def forward(self, batch: Batch) -> Tensor:
        hidden = hidden_states(self.model, batch)
        head = self.model.get_submodule(self._head_name)
        loss: Tensor = head(hidden[batch.rows], batch.targets, batch.weights)
        return loss
