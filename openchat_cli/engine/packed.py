"""Linear layers in the layout that the CPU's kernels like best.

oneDNN multiplies by weights it has laid out itself; laid out once, a step of 32 rows of a model of
58 million parameters takes two thirds of the time, the output layer less than half. The plain
weights are given up for the packed ones, so no more memory is used in the end.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

from openchat_cli.engine import quantized
from openchat_cli.engine.quantized import Int8Linear

_ROWS = 32  # what the layout is best for; any number of rows works


class PackedLinear(nn.Module):
    """What `nn.Linear` computes, from packed weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        # Not a parameter: an opaque tensor, which only these kernels can read.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, inputs: Tensor) -> Tensor:
        made: Tensor = self._product(inputs, self._weight, self.bias, "none", [], "")
        return made


def pack(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace a model's linear layers, in place, where this machine gains by it."""
    gains = _gains(dtype)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is Int8Linear:
                setattr(module, name, quantized.pack(child))
            elif type(child) is nn.Linear and gains:  # a subclass does something of its own
                setattr(module, name, PackedLinear(child))


def _gains(dtype: torch.dtype) -> bool:
    ops: Any = torch.ops.mkldnn
    if platform.machine() not in ("x86_64", "AMD64") or not torch._C._has_mkldnn:
        return False
    if not (hasattr(ops, "_linear_pointwise") and hasattr(ops, "_reorder_linear_weight")):
        return False  # not public: another torch may lack them
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return dtype == torch.float32
