"""Small models and datasets for the training tests, made on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from openchat_cli.core import registry
from openchat_cli.core.manifest import Manifest
from openchat_cli.core.templates import template_hash

VOCABULARY = 300
CONTEXT = 512
TOKENIZER = "0123456789abcdef"

Record = list[Any]


def records(count: int, seed: int = 0, longest: int = 120) -> list[Record]:
    """`[ids, mask]` of log-normal lengths, of a language a tiny model can learn."""
    rng = random.Random(seed)
    made: list[Record] = []
    for _ in range(count):
        length = min(longest, max(8, int(rng.lognormvariate(3.3, 0.7))))
        start, stride = rng.randrange(1, VOCABULARY), rng.choice([1, 2, 3])
        ids = [(start + stride * at) % VOCABULARY for at in range(length)]
        prompt = rng.randrange(2, 6)
        made.append([ids, [False] * prompt + [True] * (length - prompt)])
    return made


def llama(**changes: Any) -> Any:
    """A LLaMA with grouped-query attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
    }
    return LlamaForCausalLM(LlamaConfig(**(values | changes)))


def bigcode() -> Any:
    """A GPTBigCode with multi-query attention and tied embeddings, without dropout."""
    import torch
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    torch.manual_seed(0)
    return GPTBigCodeForCausalLM(
        GPTBigCodeConfig(
            vocab_size=VOCABULARY,
            n_embd=48,
            n_layer=2,
            n_head=4,
            n_positions=CONTEXT,
            n_inner=96,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def write_model(folder: Path, kind_name: str = "openchat") -> Path:
    """A prepared model folder, as far as training looks at it."""
    kind = registry.get(kind_name)
    (llama() if kind.architecture == "llama" else bigcode()).save_pretrained(folder)
    manifest = Manifest(kind, eot_id=2, tokenizer_hash=TOKENIZER, context=CONTEXT)
    (folder / "openchat.json").write_text(json.dumps(manifest.to_json()), "utf-8")
    return folder


def write_dataset(
    folder: Path,
    train: list[Record],
    evaluation: list[Record] | None = None,
    kind_name: str = "openchat",
    **manifest: Any,
) -> Path:
    """A dataset as `data convert` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "model_type": kind_name,
        "tokenizer_hash": TOKENIZER,
        "template_hash": template_hash(registry.get(kind_name)),
        "context": CONTEXT,
    }
    for part, value in (
        ("train", train),
        ("eval", records(4, seed=99) if evaluation is None else evaluation),
        ("dataset", about | manifest),
    ):
        (folder / f"{kind_name}.{part}.json").write_text(json.dumps(value), "utf-8")
    return folder
