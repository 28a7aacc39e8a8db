"""Tokenisers small enough to be trained in a test, and texts that break them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import sentencepiece

CORPUS = [
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    "def encode(text: str) -> list[int]:\n    return [ord(c) for c in text]",
    "Human: How are you today?\tAssistant: I am fine, thank you for asking!",
    "<s> </s> <|x|> [a] {b} (c) #d $e %f &g *h +i @j ^k `l` ~m 'n' \"o\" p;q!r?\\s/t",
    "aaaa bbbb abab aaab ==== ---- .... ______ 1234 5678 90 2024-05-06",
    "Die Würde des Menschen ist unantastbar. Все люди рождаются свободными.",
    "人人生而自由，在尊严和权利上一律平等。 すべての人間は、生まれながらにして自由",
] * 40

NASTY = [
    "",
    " ",
    "   ",
    "\n",
    "\r\n\t",
    "\0",
    "a\0b",
    "▁",
    " ▁▁ a▁",
    "<s>",
    "</s><s>",
    "<unk>",
    "<0x0A>",
    "<|end_of_turn|>",
    "<|endoftext|>",
    "<fim_prefix>x<fim_suffix>",
    "Human: hi<|end_of_turn|>Assistant: ",
    " leading",
    "trailing ",
    "two  spaces   three",
    "日本語のテキスト，中文。",
    "한국어 텍스트",
    "שלום עולם",
    "مرحبا بالعالم",
    "é e\u0301 ﬁ Ⅷ ½ ²",
    "👩‍👩‍👧‍👦 🦙 🏳️‍🌈",
    "\u200b\u200d\ufeff\u2028\u2029\x85\u3000\xa0",
    "\ufffd\uffff\U0010fffd",
    "\ufdd0\ufdd1",
    "don't I'LL we've it's",
    "0 12 345 6789012345",
    "====== ------ ::::: ________",
    "{{ x }}{% y %}&lt;&amp;",
]

_BITS = [
    *[text for text in NASTY if text],
    *"abzABZ019 \t\n.,<>|/\\'\"",
    "  ",
    "    ",
    "ing",
    "the",
    " the",
    "Human: ",
    "中",
    "é",
    "🙂",
    "=",
    "==",
]


def nasty_texts(count: int, seed: int) -> list[str]:
    """Random texts of control tokens, scripts, spaces and stray characters."""
    rng = random.Random(seed)
    return [_nasty_text(rng) for _ in range(count)]


def _nasty_text(rng: random.Random) -> str:
    parts = [rng.choice(_BITS) for _ in range(rng.randrange(1, 12))]
    if rng.random() < 0.3:
        parts.append(rng.choice(_BITS) * rng.randrange(1, 40))
    if rng.random() < 0.3:
        code = rng.choice([rng.randrange(0x20, 0xD800), rng.randrange(0xE000, 0x20000)])
        parts.append(chr(code) * rng.randrange(1, 4))
    rng.shuffle(parts)
    return "".join(parts)


def make_sentencepiece(folder: Path, **options: Any) -> Path:
    """A `tokenizer.model` like LLaMA's: BPE, identity normaliser, byte fallback, single digits."""
    settings = {
        "model_type": "bpe",
        "vocab_size": 700,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "character_coverage": 0.99,
        "num_threads": 1,
        "minloglevel": 2,
    }
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "tokenizer"),
        **{**settings, **options},
    )
    (folder / "tokenizer.vocab").unlink()
    return folder


def make_byte_level(folder: Path) -> Path:
    """A `tokenizer.json` like StarCoder's: byte-level BPE, single digits, control tokens first."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = byte_level
    control = ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[AddedToken(token, normalized=False) for token in control],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # Like StarCoder's vocabulary, this one has tokens of several digits that the splitter hides.
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def plain(path: Path) -> Any:
    """A tokenizer.json as `tokenizers` reads it, but blind for control tokens: the reference."""
    from tokenizers import Tokenizer

    value = json.loads(path.read_text("utf-8"))
    return Tokenizer.from_str(json.dumps({**value, "added_tokens": [], "post_processor": None}))
