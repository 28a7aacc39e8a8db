"""Models of a few thousand random weights and a tokeniser of bytes, made on the spot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from openchat_cli.core import registry
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.runner import Runner

torch.set_num_threads(1)

BOS, EOT = 256, 257
VOCAB = 258
# Byte tokens carry no dummy space, hence "byte-level".
KIND = dataclasses.replace(
    registry.get("openchat"),
    tokenizer="byte-level",
    roles=MappingProxyType({"user": "U:", "assistant": "A:"}),
)


class ByteTokenizer:
    """Every byte is a token."""

    bos_id = BOS
    eot_id = EOT
    vocab_size = VOCAB

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(token) for token in ids).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""


def llama(
    *, seed: int = 0, context: int = 256, spread: float = 0.5, **more: Any
) -> PreTrainedModel:
    """A LLaMA with grouped-query attention; `spread` is the deviation of its weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=264,  # padded past the tokeniser's, as real models are
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=spread,
        **more,
    )
    return LlamaForCausalLM(config).eval()


def mistral(*, seed: int = 0, context: int = 256, window: int | None = None) -> PreTrainedModel:
    """A Mistral, whose tokens look back at most `window` positions."""
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=264,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        sliding_window=window,
        initializer_range=0.5,
    )
    return MistralForCausalLM(config).eval()


def bigcode(*, seed: int = 0, context: int = 256, multi_query: bool = True) -> PreTrainedModel:
    """A GPTBigCode model."""
    torch.manual_seed(seed)
    config = GPTBigCodeConfig(
        vocab_size=264,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=context,
        multi_query=multi_query,
        initializer_range=0.3,
    )
    return GPTBigCodeForCausalLM(config).eval()


def engine(
    model: PreTrainedModel | None = None,
    *,
    slots: int = 4,
    context: int = 256,
    tokenizer: Any = None,
    **more: Any,
) -> Engine:
    """An engine over a tiny model."""
    runner = Runner(model or llama(), slots=slots, context=context, vocab_size=VOCAB)
    return Engine(runner, tokenizer or ByteTokenizer(), KIND, **more)


def reference(model: PreTrainedModel, prompt: Sequence[int], count: int) -> list[int]:
    """Greedy continuation by whole forward passes, without any cache: slow and plainly right."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1, :VOCAB]
            ids.append(int(logits.argmax()))
            if ids[-1] == EOT:
                break
    return ids[len(prompt) :]
