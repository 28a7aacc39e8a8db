"""A model folder made on the spot: random LLaMA weights and a SentencePiece-like tokeniser."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from openchat_cli.core import registry
from openchat_cli.core.manifest import FILE_NAME, Manifest
from openchat_cli.core.tokens import load_tokenizer

WORDS = ["▁Hello", "▁world", "▁the", "▁a"]


def model_folder(path: Path, *, context: int = 2048, name: str = "openchat") -> Path:
    """A folder as `openchat model prepare` leaves it, at `path`."""
    path.mkdir(parents=True)
    kind = registry.get(name)
    size = _write_tokenizer(path / "tokenizer.json", kind.eot)
    torch.manual_seed(1)
    mistral = kind.architecture == "mistral"
    make_config, make_model = (
        (MistralConfig, MistralForCausalLM) if mistral else (LlamaConfig, LlamaForCausalLM)
    )
    config = make_config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,
        eos_token_id=size - 1,
        bos_token_id=1,
    )
    make_model(config).save_pretrained(path)
    tokenizer = load_tokenizer(path, kind)
    manifest = Manifest(kind, tokenizer.eot_id, tokenizer.hash, context)
    (path / FILE_NAME).write_text(json.dumps(manifest.to_json()))
    return path


def _write_tokenizer(path: Path, eot: str) -> int:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), "▁"]
    pieces += [chr(code) for code in range(33, 127)]
    merges: list[list[str]] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append([word[: end - 1], word[end - 1]])
    vocab = {piece: index for index, piece in enumerate(pieces)}
    added = [("<unk>", 0), ("<s>", 1), ("</s>", 2), (eot, len(pieces))]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec = {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": token, **flags, "special": True} for token, index in added
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": merges,
        },
    }
    path.write_text(json.dumps(spec))
    return len(pieces) + 1
