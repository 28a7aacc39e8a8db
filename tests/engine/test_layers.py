"""Joined layers give what transformers' own give."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP

from openchat_cli.engine import layers, quantized
from openchat_cli.engine.settings import SamplingParams
from tests.engine import tiny

SHAPE: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def llama(**more: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **more})).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):  # which start as zeros and ones
            nn.init.normal_(weight, 1, 0.3)
    return model


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"attention_bias": True, "mlp_bias": True},
        {"head_dim": 24},
        {"num_key_value_heads": 4, "hidden_act": "gelu"},
        {"tie_word_embeddings": True, "rms_norm_eps": 1e-2},
        {"rope_parameters": LLAMA3},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
        {"dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_what_they_compute_is_the_same(more: dict[str, Any]) -> None:
    dtype = more.pop("dtype", torch.float32)
    model = llama(**more).to(dtype)
    ids = torch.randint(0, 264, (3, 90), generator=torch.Generator().manual_seed(2))
    joined = copy.deepcopy(model)
    assert layers.join(joined) == 2
    with torch.inference_mode():
        expected, found = model(input_ids=ids).logits, joined(input_ids=ids).logits
    assert (found - expected).norm() < (1e-5 if dtype == torch.float32 else 0.03) * expected.norm()


@pytest.mark.parametrize("quantize", [False, True])
def test_the_engine_answers_as_before(quantize: bool) -> None:
    model = llama(rope_parameters=LLAMA3, attention_bias=True, initializer_range=0.5)
    if quantize:
        quantized.quantize(model, "int8", torch.device("cpu"))
    prompts = [[tiny.BOS, *range(n, 4 * n)] for n in range(1, 12)]
    wanted = [tiny.reference(model, prompt, 12) for prompt in prompts]
    params = [SamplingParams(temperature=0, max_tokens=12)] * len(prompts)
    with tiny.engine(model, slots=5, prefill_tokens=20) as engine:
        found = engine.complete(prompts, params)
    # Rounded inputs of one token and of many are scaled in another order.
    same = sum(list(a.token_ids) == b for a, b in zip(found, wanted, strict=True))
    assert same == len(prompts) or (quantize and same >= len(prompts) - 1)


class Scaled(LlamaMLP):
    """An MLP that does something of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_what_is_not_understood_is_left_alone() -> None:
    strange = llama()
    base: Any = strange.base_model
    base.layers[1].mlp.__class__ = Scaled
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert layers.join(strange) == 0
    assert layers.join(llama(rope_parameters=dynamic)) == 0
    assert layers.join(tiny.bigcode()) == 0
    joined = llama()
    assert (layers.join(joined), layers.join(joined)) == (2, 0)
