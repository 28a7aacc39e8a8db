"""Weights of 8 bits, or 4 on a GPU.

On the CPU each output's weights share one scale, and each token's inputs are rounded to 8 bits by a
scale of their own when they come, so that an answer does not depend on what is computed beside it.
Whole-number products are exact.

On a GPU torchao does it, and only the weights are rounded. Its 4 bits have a kernel of their own in
torch, which reads a quarter of the bytes. Its 8 bits save memory and no time: without a compiler in
between, each product first turns the weights back into bf16.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from openchat_cli.core.errors import UsageError, need
from openchat_cli.engine.settings import Quantize

_LARGEST = 127  # of a signed byte, and its negative
_TINY = 1e-12  # the largest of a token that is all zeros
_PRODUCT = "linear_with_input_q_dq_qweight_dq_output_fp32"


class Int8Linear(nn.Module):
    """What `nn.Linear` computes, nearly, from whole numbers."""

    weight: Tensor  # int8 [outputs, inputs]
    scale: Tensor  # [outputs]

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = bias

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """The nearest to a layer of floating-point weights."""
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=-1, keepdim=True).clamp_min_(_TINY).div_(_LARGEST)
        rounded = (weight / scale).round_().to(torch.int8)
        return cls(rounded, scale[:, 0], linear.bias)

    @classmethod
    def joined(cls, parts: Sequence[Int8Linear]) -> Self:
        """One layer that gives the outputs of several, one after another."""
        biases = [part.bias for part in parts if part.bias is not None]
        return cls(
            torch.cat([part.weight for part in parts]),
            torch.cat([part.scale for part in parts]),
            torch.cat(biases) if biases else None,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        shares, largest = _shares(inputs)
        rounded = (shares * _LARGEST).round_().to(torch.int8)
        flat = torch._int_mm(rounded.reshape(-1, self.in_features), self.weight.t())
        made = (flat * (self.scale / _LARGEST)).reshape(*inputs.shape[:-1], self.out_features)
        return _scaled(made, largest, self.bias).to(inputs.dtype)


class PackedInt8Linear(nn.Module):
    """The same from weights laid out for fbgemm, whose products take half the time or less."""

    def __init__(self, linear: Int8Linear, levels: int) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._levels = levels
        product = getattr(torch.ops.quantized, _PRODUCT).default
        # Called directly, it does without what torch looks at in Python first.
        self._product = getattr(product, "_op", product)
        zeros = torch.zeros(linear.out_features, dtype=torch.long)
        with warnings.catch_warnings():
            # torch means to drop this kind of tensor one day; `_levels` then finds no such product.
            warnings.simplefilter("ignore", UserWarning)
            whole = torch._make_per_channel_quantized_tensor(linear.weight, linear.scale, zeros, 0)
            self._weight = torch.ops.quantized.linear_prepack(whole, None)

    def forward(self, inputs: Tensor) -> Tensor:
        # It takes bytes without a sign: 0 becomes levels + 1, and is taken off again.
        zero = self._levels + 1
        if inputs.numel() == self.in_features and self.bias is None:
            only = float(inputs.abs().max())
            if _TINY < only < math.inf:  # a product that scales by itself saves three operations
                made: Tensor = self._product(inputs, only / self._levels, zero, self._weight)
                return made
        shares, largest = _shares(inputs)
        made = self._product(shares, 1 / self._levels, zero, self._weight)
        return _scaled(made, largest, self.bias).to(inputs.dtype)


def _shares(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs as shares of the largest of each token, and those; NaN where an input is."""
    inputs = inputs.float()
    largest = inputs.abs().amax(dim=-1, keepdim=True).clamp_min_(_TINY)
    return inputs / largest, largest


def _scaled(made: Tensor, largest: Tensor, bias: Tensor | None) -> Tensor:
    return made.mul_(largest) if bias is None else torch.addcmul(bias, made, largest)


def pack(linear: Int8Linear) -> nn.Module:
    """The layer in the layout that this machine's kernels like best."""
    levels = _levels()
    if not levels:
        return linear
    chosen = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        return PackedInt8Linear(linear, levels)
    finally:
        torch.backends.quantized.engine = chosen


def _levels() -> int:
    """To how many steps on each side of 0 fbgemm may be given inputs; 0 where there is none.

    Without the instructions for products of bytes it adds pairs of them in 16 bits, which 127 · 127
    twice just fits.
    """
    quantized: Any = torch.ops.quantized
    if "fbgemm" not in torch.backends.quantized.supported_engines or not hasattr(
        quantized, _PRODUCT
    ):
        return 0
    return _LARGEST if torch.cpu._is_vnni_supported() else _LARGEST // 2


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
                setattr(module, name, Int8Linear.of(child))
