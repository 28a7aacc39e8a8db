"""The ids that `data convert` writes are SentencePiece's own, whatever a text holds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from openchat_cli.data.convert import convert
from openchat_cli.data.settings import ConvertSettings
from tests.core.small import NASTY, make_sentencepiece
from tests.data.rows import conversation, write

_MEGABYTE = 1_000_000

BITS = [
    *(text for text in NASTY if text),
    *("▁", "▁▁", " ", "  ", "\t", "\r", "\r\n", "\n\n", "\0", "\x7f", "\x80", "\xad"),
    *("<s>", "</s>", "<unk>", "<0x0A>", "<0xFF>", "<|end_of_turn|>", "[INST]", "<<SYS>>"),
    *("ᄀ", "ᅡ", "ᆨ", "각", "\ue000", "\uf8ff", "\U000f0000", "\ufdd0", "\ufdd1"),
    *("a", "the", " the", "ing", "Hello", "é", "e\u0301", "中", "123", "0", "=="),
]


def texts(count: int, seed: int) -> list[str]:
    """Every byte, pairs of hostile bits, characters of all planes, and random mixtures."""
    rng = random.Random(seed)
    found = [chr(code) for code in range(0x180)]
    found += ["".join(rng.choices(BITS, k=2)) for _ in range(count // 4)]
    while len(found) < count:
        parts = [
            rng.choice(BITS) * rng.choice((1, 1, 1, 2, 40))
            if rng.random() < 0.7
            else chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x110000))))
            for _ in range(rng.randrange(1, 9))
        ]
        found.append("".join(parts))
    return found


def check(folder: Path, model: Path, given: list[str]) -> None:
    """Convert pairs of texts and compare every record with DESIGN's layout over SentencePiece."""
    truth: Any = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    pairs = list(zip(given[::2], given[1::2], strict=False))
    source = write(
        folder / "rows.jsonl", *(conversation(f"c{k}", *pair) for k, pair in enumerate(pairs))
    )
    size = 10 * _MEGABYTE
    convert(ConvertSettings(source, folder / "out", "openchat", model, context=size))
    eot = truth.vocab_size()
    human, assistant = truth.encode(["Human: ", "Assistant: "])
    expected = [
        [1, *human, *question, eot, *assistant, *answer, eot]
        for question, answer in (truth.encode(list(pair)) for pair in pairs)
    ]
    parts = [folder / "out" / f"openchat.{part}.json" for part in ("train", "eval")]
    found = [ids for path in parts for ids, _ in json.loads(path.read_bytes())]
    assert len(found) == len(expected)
    assert sorted(found) == sorted(expected)
    assert not {0, 2} & {token for ids in found for token in ids}


def test_hostile_texts_through_a_small_model(tmp_path: Path) -> None:
    check(tmp_path, make_sentencepiece(tmp_path / "model"), texts(3_000, seed=1))


@pytest.mark.slow
def test_20_000_hostile_texts_through_llamas(tmp_path: Path, shared_data: Path) -> None:
    """From `tokenizer.model` alone."""
    model = tmp_path / "model"
    model.mkdir()
    source = shared_data / "tokenizers" / "llama" / "tokenizer.model"
    (model / "tokenizer.model").write_bytes(source.read_bytes())
    rng = random.Random(5)
    units = ["a", " ", "▁", "=", "中", "🦙", "\n", "1", "\0", "the", "\u0301"]
    huge = [unit * (_MEGABYTE // len(unit.encode())) for unit in units]
    huge.append("".join(rng.choices("ABCDefghijklmnop0123456789+/", k=_MEGABYTE)))
    check(tmp_path, model, [*texts(20_000, seed=2), *huge])
