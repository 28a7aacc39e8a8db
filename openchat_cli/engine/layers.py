"""LLaMA's and Mistral's layers with fewer and larger operations.

At one token a step a small model spends more time on being called than on reading its weights. Here
queries, keys and values come of one product, gate and up of another, and rotary angles out of a
table. The layers take the places of transformers' own, whose model still calls them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaRMSNorm,
)
from transformers.models.mistral.modeling_mistral import (
    MistralAttention,
    MistralDecoderLayer,
    MistralMLP,
    MistralRMSNorm,
)

from openchat_cli.engine import attention
from openchat_cli.engine.quantized import Int8Linear

# What is understood here, and nothing derived from it.
_LAYERS = {
    LlamaDecoderLayer: (LlamaAttention, LlamaMLP, LlamaRMSNorm),
    MistralDecoderLayer: (MistralAttention, MistralMLP, MistralRMSNorm),
}
# Angles that depend on the position alone.
_ROTARY = ("default", "linear", "llama3", "yarn")


class JoinedLayer(nn.Module):
    """What a decoder layer computes."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        own = layer.self_attn
        self.layer_idx: int = own.layer_idx
        self.is_causal = True  # this and the next are read by transformers' own attention
        self.num_key_value_groups: int = own.num_key_value_groups
        self.scaling: float = own.scaling
        self._size: int = own.head_dim
        self._queries = own.q_proj.out_features // own.head_dim
        self._turned = self._queries + own.k_proj.out_features // own.head_dim
        self.inputs = _join([own.q_proj, own.k_proj, own.v_proj])
        self.outputs = own.o_proj
        self.gate_up = _join([layer.mlp.gate_proj, layer.mlp.up_proj])
        self.down = layer.mlp.down_proj
        self.activation = layer.mlp.act_fn
        self.norm = _Norm(layer.input_layernorm)
        self.norm_between = _Norm(layer.post_attention_layernorm)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        past_key_values: Any = None,
        step: attention.Attends | None = None,
        **more: Any,
    ) -> Tensor:
        norm, inputs, outputs, norm_between, gate_up, activation, down = self._calls
        batch, count, _ = hidden_states.shape
        cos, sin = position_embeddings
        heads = inputs(norm(hidden_states))
        heads = heads.view(batch, count, -1, self._size).transpose(1, 2)
        turned = heads[:, : self._turned]
        turned = torch.addcmul(turned * cos, turned.roll(self._size // 2, -1), sin)
        query, keys = turned[:, : self._queries], turned[:, self._queries :]
        found = self._attend(
            query, keys, heads[:, self._turned :], attention_mask, past_key_values, step
        )
        hidden_states = hidden_states + outputs(found.reshape(batch, count, -1))
        gate, up = gate_up(norm_between(hidden_states)).chunk(2, dim=-1)
        hidden_states += down(activation(gate).mul_(up))
        return hidden_states

    @cached_property
    def _calls(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The parts' forward passes, found once and called without a module's hooks.

        Made at the first use, when the linear layers have been packed.
        """
        parts = (
            self.norm,
            self.inputs,
            self.outputs,
            self.norm_between,
            self.gate_up,
            self.activation,
            self.down,
        )
        return tuple(part.forward for part in parts)

    def _attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        cache: Any,
        step: attention.Attends | None,
    ) -> Tensor:
        if step is not None:
            stored = cache.store(self.layer_idx, keys, values)
            return step.attend(query, stored[0], stored[1], self.scaling)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer_idx)
        found, _ = attention.attend(self, query, keys, values, mask, scaling=self.scaling)
        return found


class _Norm(nn.Module):
    """Zhang and Sennrich's (2019) normalisation by the root of the mean square."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        # A tuple hides the weight from the module, which would search for it at each use.
        self._weight: tuple[Tensor] = (norm.weight,)
        self._size = len(norm.weight)
        self._least: float = norm.variance_epsilon
        self._leasts = torch.full((1,), self._least, device=norm.weight.device)
        self._zero = torch.zeros(1, device=norm.weight.device)

    def forward(self, hidden: Tensor) -> Tensor:
        (weight,) = self._weight
        if hidden.dtype != torch.float32:
            same: Tensor = torch.rms_norm(hidden, hidden.shape[-1:], weight, self._least)
            return same
        # In fewer operations than torch's own, which has none for the CPU.
        if hidden.numel() == self._size:
            length = vector_norm(hidden).item()
            root = math.sqrt(length * length / self._size + self._least)
            return torch.addcmul(self._zero, hidden, weight, value=1 / root)
        lengths = vector_norm(hidden, dim=-1, keepdim=True)
        mean_squares = torch.addcmul(self._leasts, lengths, lengths, value=1 / self._size)
        return (hidden * mean_squares.rsqrt_()).mul_(weight)


class RotaryTable(nn.Module):
    """The cosines and sines of the first positions [batch, 1, tokens, head size].

    The sines of the first half are negative: a vector's halves need then only change places.
    """

    def __init__(self, rotary: nn.Module, positions: int, like: Tensor) -> None:
        super().__init__()
        cos, sin = rotary(like, torch.arange(positions, device=like.device)[None])
        self._angles = torch.cat([cos[0], sin[0]], dim=-1)
        self._size = cos.shape[-1]
        self._angles[:, self._size : self._size * 3 // 2].neg_()

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = self._angles[position_ids][:, None]
        return angles[..., : self._size], angles[..., self._size :]


def join(model: PreTrainedModel) -> int:
    """Replace a model's layers, in place, where all of them are understood; gives how many."""
    base: Any = model.base_model
    layers = getattr(base, "layers", ())
    if not layers or not all(_understood(layer) for layer in layers):
        return 0
    if base.rotary_emb.rope_type not in _ROTARY:
        return 0
    positions = int(base.config.max_position_embeddings)
    with torch.inference_mode(False), torch.no_grad():
        base.rotary_emb = RotaryTable(base.rotary_emb, positions, base.norm.weight)
        for index, layer in enumerate(layers):
            layers[index] = JoinedLayer(layer)
        base.norm = _Norm(base.norm)
    if "forward" not in vars(base):  # as somebody may have wrapped it
        base.forward = _Forward(base)
    return len(layers)


class _States(NamedTuple):
    last_hidden_state: Tensor


class _Forward:
    """A model's forward pass: for a step of the engine the layers alone, with none of what
    transformers looks at before and after them.
    """

    def __init__(self, base: Any) -> None:
        self._base, self._whole = base, base.forward

    def __call__(self, *, step: Any = None, past_key_values: Any = None, **more: Any) -> Any:
        base = self._base
        if step is None:
            return self._whole(past_key_values=past_key_values, **more)
        hidden = base.embed_tokens(step.input_ids)
        angles = base.rotary_emb(hidden, step.position_ids)
        for layer in base.layers:
            hidden = layer.forward(
                hidden, position_embeddings=angles, past_key_values=past_key_values, step=step
            )
        return _States(base.norm(hidden))


def _understood(layer: Any) -> bool:
    if type(layer) not in _LAYERS:
        return False
    attends, between, norm = _LAYERS[type(layer)]
    own, mlp = layer.self_attn, layer.mlp
    parts = (own.q_proj, own.k_proj, own.v_proj, mlp.gate_proj, mlp.up_proj)
    return (
        (type(own), type(mlp)) == (attends, between)
        and type(layer.input_layernorm) is type(layer.post_attention_layernorm) is norm
        and (all(_plain(part) for part in parts) or all(type(p) is Int8Linear for p in parts))
    )


def _plain(linear: nn.Module) -> bool:
    return type(linear) is nn.Linear and type(linear.weight) is nn.Parameter


def _join(linears: Sequence[nn.Module]) -> nn.Module:
    """One layer that gives the outputs of several, one after another."""
    if isinstance(linears[0], Int8Linear):
        return Int8Linear.joined([part for part in linears if isinstance(part, Int8Linear)])
    parts = [part for part in linears if isinstance(part, nn.Linear)]
    outputs = sum(part.out_features for part in parts)
    with torch.device("meta"):
        joined = nn.Linear(parts[0].in_features, outputs, bias=parts[0].bias is not None)
    joined.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
    if parts[0].bias is not None:
        joined.bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
    return joined
