"""A base model of a million parameters, made on the spot: for trying the road, never for answers.

A LLaMA with random weights and a tokeniser of LLaMA's kind (SentencePiece-style BPE with byte
fallback), trained on the conversations that the model will meet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Conversation
from openchat_cli.model.folder import whole_folder

_CONTROL = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2, as in LLaMA
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_SPACE = "▁"  # U+2581, how SentencePiece writes a space


@dataclass(frozen=True)
class TinySettings:
    """Conversations in, a Hugging Face folder out.

    `initializer_range` is twice LLaMA's: with 0.02 a model this narrow learns next to nothing in
    the few hundred steps of a demonstration.
    """

    corpus: Path  # conversations, as `data clean` and `data filter` write them
    out: Path
    vocab_size: int = 1200  # pieces, the 3 control tokens and 256 bytes among them
    hidden_size: int = 256
    intermediate_size: int = 512
    layers: int = 2
    heads: int = 4
    context: int = 2048  # tokens
    initializer_range: float = 0.04
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class TinySummary:
    """What was made."""

    out: Path
    parameters: int
    vocab_size: int
    texts: int  # messages that the tokeniser was trained on


def make_tiny(settings: TinySettings, *, progress: Progress = SILENT) -> TinySummary:
    """Train the tokeniser, draw the weights and write both to `settings.out`.

    The same corpus and seed give the same files. Raises InputError where the corpus has no text,
    UsageError where `out` holds a model already or the sizes can't be.
    """
    if settings.hidden_size % settings.heads or settings.vocab_size <= len(_CONTROL + _BYTES):
        raise UsageError("a tiny model needs heads that divide its width, and over 259 pieces")
    if (settings.out / "config.json").exists() and not settings.force:
        raise UsageError(f"{settings.out}: already holds a model", "add --force to write it anew")
    texts = list(_texts(settings.corpus))
    if not texts:
        raise InputError(f"{settings.corpus}: no conversations to learn a tokeniser from")
    with whole_folder(settings.out) as work:
        with progress.task("training the tokeniser", total=len(texts), unit="texts") as task:
            tokenizer = train_tokenizer(texts, settings.vocab_size)
            task.update(done=len(texts))
        vocab_size = len(tokenizer["model"]["vocab"])
        _write_tokenizer(work, tokenizer)
        parameters = _write_weights(work, settings, vocab_size)
    return TinySummary(settings.out, parameters, vocab_size, len(texts))


def _texts(corpus: Path) -> Iterator[str]:
    for conversation in records.read(corpus, Conversation):
        for message in conversation.messages:
            yield message.content


def train_tokenizer(texts: list[str], vocab_size: int) -> dict[str, Any]:
    """A `tokenizer.json` as LLaMA's: no pre-tokeniser, spaces as U+2581, bytes for what is rare.

    Merges are learned within words, so that no piece has a space but at its start; line breaks
    stay out of the vocabulary and become the byte <0x0A>.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(unk_token=_CONTROL[0]))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[*_CONTROL, *_BYTES], show_progress=False
    )
    lines = [line for text in texts for line in text.splitlines()]
    learner.train_from_iterator(lines, trainer)
    learned: dict[str, Any] = json.loads(learner.to_str())
    return learned | {
        "added_tokens": [_control_token(index, text) for index, text in enumerate(_CONTROL)],
        "normalizer": _sequence(
            "normalizers",
            {"type": "Prepend", "prepend": _SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        ),
        "pre_tokenizer": None,
        "decoder": _sequence(
            "decoders",
            {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ),
        "model": learned["model"] | {"byte_fallback": True, "fuse_unk": True},
    }


def _control_token(index: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, **flags, "special": True}


def _sequence(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


def _write_tokenizer(work: Path, tokenizer: dict[str, Any]) -> None:
    jsonl.write_json(work / "tokenizer.json", tokenizer)
    unknown, bos, eos = _CONTROL
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unknown,
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    jsonl.write_json(work / "tokenizer_config.json", configuration)


def _write_weights(work: Path, settings: TinySettings, vocab_size: int) -> int:
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    configuration = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.context,
        initializer_range=settings.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = LlamaForCausalLM(configuration)
    configuration.save_pretrained(work)
    # Not the model's own save_pretrained, which draws a bar of its own. The output embedding is the
    # input's: it goes in once.
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "lm_head" not in name}
    save_file(tensors, work / "model.safetensors", metadata={"format": "pt"})
    return sum(parameter.numel() for parameter in model.parameters())
