"""A model folder for the serving benchmark: random LLaMA weights and a tokeniser of 32,000."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openchat_cli.core import registry
from openchat_cli.core.manifest import FILE_NAME, Manifest
from openchat_cli.core.tokens import load_tokenizer

VOCABULARY = 32_000
CONTEXT = 512


@dataclass(frozen=True)
class Size:
    """The shape of a LLaMA."""

    name: str
    hidden: int
    between: int
    layers: int
    heads: int


SMALL = Size("4 million weights", 64, 176, 2, 4)
LLAMA = Size("58 million weights", 512, 1376, 8, 8)
LARGER = Size("268 million weights", 1024, 2752, 16, 16)


def make_folder(path: Path, size: Size) -> list[str]:
    """Write the folder; gives words that are one token each."""
    kind = registry.get("openchat")
    words = _write_tokenizer(path, kind.eot)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.hidden,
        intermediate_size=size.between,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=VOCABULARY - 1,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer = load_tokenizer(path, kind)
    manifest = Manifest(kind, tokenizer.eot_id, tokenizer.hash, CONTEXT)
    (path / FILE_NAME).write_text(json.dumps(manifest.to_json()))
    return words


def _write_tokenizer(path: Path, eot: str) -> list[str]:
    """A byte-pair tokeniser that builds every word from its beginning, letter by letter."""
    rng = random.Random(0)
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), "▁"]
    pieces += [chr(code) for code in range(33, 127)]
    known, merges, words = set(pieces), [], []
    while len(pieces) < VOCABULARY - 1:
        word = "▁" + "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5))
        for end in range(2, len(word) + 1):
            if word[:end] not in known and len(pieces) < VOCABULARY - 1:
                known.add(word[:end])
                pieces.append(word[:end])
                merges.append([word[: end - 1], word[end - 1]])
        if word in known:
            words.append(word[1:])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    control = [("<unk>", 0), ("<s>", 1), ("</s>", 2), (eot, VOCABULARY - 1)]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    spec = {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": token, **flags, "special": True} for token, index in control
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": merges,
        },
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "tokenizer.json").write_text(json.dumps(spec))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": eot,
        "clean_up_tokenization_spaces": False,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(told))
    return words
