"""Weights of 8 bits, or 4 on a GPU.

On the CPU each output's weights share one scale, and each token's inputs are rounded to 8 bits by a
scale of their own when they come, so that an answer does not depend on what is computed beside it.
Whole-number products are exact.

On a GPU torchao does it, and only the weights are rounded. Its 4 bits have a kernel of their own in
torch, which reads a quarter of the bytes. Its 8 bits save memory and no time: without a compiler in
between, each product first turns the weights back into bf16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openchat_cli.core.errors import UsageError, need
from openchat_cli.engine.settings import Quantize

_LARGEST = 127  # of a signed byte, and its negative


class Int8Linear(nn.Module):
    """What `nn.Linear` computes, nearly, from whole numbers."""

    weight: Tensor  # int8 [outputs, inputs]
    scale: Tensor  # [outputs]

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        weight = linear.weight.detach().float()
        scale = _scale(weight)
        self.register_buffer("weight", (weight / scale).round_().to(torch.int8))
        self.register_buffer("scale", scale[:, 0])

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.reshape(-1, self.in_features).float()
        scale = _scale(flat)  # NaN where an input is, and so in the outputs
        rounded = (flat / scale).round_().to(torch.int8)
        made = torch._int_mm(rounded, self.weight.t()).float()
        made.mul_(scale).mul_(self.scale)
        if self.bias is not None:
            made.add_(self.bias)
        return made.to(inputs.dtype).reshape(*inputs.shape[:-1], self.out_features)


def _scale(rows: Tensor) -> Tensor:
    """For each row what its largest number is rounded to 127 by [rows, 1]."""
    return rows.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-12).div_(_LARGEST)


def quantize(model: nn.Module, to: Quantize, device: torch.device) -> None:
    """Quantize a model's linear layers, in place. UsageError where this device can't."""
    if device.type == "cpu":
        _on_cpu(model)
        return
    _by_torchao(model, to)


def _by_torchao(model: nn.Module, to: Quantize) -> None:
    # torchao ships no types.
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    if to == "int8":
        quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False))
        return
    # torchao's default packing needs a package of kernels more; this one's are torch's own.
    packing = "tile_packed_to_4d"
    config = Int4WeightOnlyConfig(int4_packing_format=packing, set_inductor_config=False)
    quantize_(model, config, filter_fn=_inside)


def _inside(module: nn.Module, name: str) -> bool:
    """Whether a layer is inside the model: the output layer loses too much by 4 bits."""
    return type(module) is nn.Linear and name != "lm_head"


def check(to: Quantize, device: torch.device, dtype: str) -> None:
    """UsageError or MissingExtraError now, before the weights are read, where it can't be done."""
    if device.type != "cpu":
        need(f"--quantize {to} on a GPU", "quantize", "torchao")
        if to == "int4" and dtype != "bf16":
            raise UsageError("--quantize int4 computes in bf16", "leave --dtype out")
    elif to != "int8":
        raise UsageError(f"--quantize {to} needs a GPU", "int8 works on the CPU")
    elif dtype == "bf16":
        hint = "leave --dtype out: the weights are 8-bit, and the rest is small"
        raise UsageError("--quantize int8 computes the rest in fp32 on the CPU, not bf16", hint)


def _on_cpu(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child))
