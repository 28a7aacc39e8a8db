"""Tiny base models, made on the spot."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.core.small import make_byte_level, make_sentencepiece

os.environ["HF_HUB_OFFLINE"] = "1"
COMMAND = [sys.executable, "-m", "openchat_cli"]


def make_llama(folder: Path, **changes: Any) -> Path:
    """A random LLaMA with a tokenizer.model of 700 pieces, 128 tokens of context."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_sentencepiece(folder)
    settings = {
        "vocab_size": 700,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    dtype = changes.pop("dtype", torch.bfloat16)
    _save(LlamaForCausalLM(LlamaConfig(**settings | changes)).to(dtype), folder)
    return folder


def make_starcoder(folder: Path, **changes: Any) -> Path:
    """A random GPTBigCode with a byte-level tokenizer.json, 8192 learned positions."""
    import json

    import torch
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    make_byte_level(folder)
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    settings = {
        "vocab_size": len(vocab),
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 8192,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    torch.manual_seed(0)
    config = GPTBigCodeConfig(**settings | changes)
    _save(GPTBigCodeForCausalLM(config).to(torch.bfloat16), folder)
    return folder


def _save(model: Any, folder: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
