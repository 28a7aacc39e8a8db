"""The bar: LLaMA's and StarCoder's real tokenisers on real conversations, 0 differences."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import sentencepiece

from openchat_cli.core import registry, templates, tokens
from openchat_cli.core.records import Message
from tests.core import shared
from tests.core.small import NASTY, nasty_texts, plain

pytestmark = shared.needs_data

LLAMA = registry.get("openchat")
STARCODER = registry.get("opencoder")
TEXTS = [
    *NASTY,
    *(
        unit * (100_000 // len(unit.encode()))
        for unit in ("a", "Ab", "=", "中", "🦙", "7", "\u0301")
    ),
]


@pytest.fixture(scope="module")
def llama_truth() -> Any:
    path = shared.TOKENIZERS / "llama" / "tokenizer.model"
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


@pytest.fixture(scope="module")
def starcoder_truth() -> Any:
    return plain(shared.TOKENIZERS / "starcoder" / "tokenizer.json")


@pytest.fixture(scope="module")
def llama() -> tokens.ChatTokenizer:
    return tokens.load_tokenizer(shared.TOKENIZERS / "llama", LLAMA)


@pytest.fixture(scope="module")
def starcoder() -> tokens.ChatTokenizer:
    return tokens.load_tokenizer(shared.TOKENIZERS / "starcoder", STARCODER)


def expected(
    kind: registry.ModelType,
    encode: Callable[[list[str]], list[list[int]]],
    conversations: list[list[Message]],
    bos: list[int],
    eot: int,
) -> list[templates.Rendered]:
    """DESIGN's rule written down once more, over the reference tokeniser."""
    messages = [message for conversation in conversations for message in conversation]
    texts = iter(encode([message.content for message in messages]))
    prefixes = {role: encode([text])[0] for role, text in kind.roles.items()}
    found: list[templates.Rendered] = []
    for conversation in conversations:
        ids, mask = list(bos), [False] * len(bos)
        for message in conversation:
            text = [*next(texts), eot]
            ids += prefixes[message.role] + text
            mask += [False] * len(prefixes[message.role])
            mask += [message.role == "assistant"] * len(text)
        found.append(templates.Rendered(ids, mask))
    return found


def test_llama_renders_every_conversation_as_sentencepiece(
    llama: tokens.ChatTokenizer, llama_truth: Any
) -> None:
    conversations = shared.conversations()
    assert len(conversations) >= 900
    wanted = expected(LLAMA, llama_truth.encode, conversations, [1], 32000)
    found = [templates.render(LLAMA, llama, messages) for messages in conversations]
    assert [i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]] == []


def test_starcoder_renders_every_conversation_as_its_tokenizer_json(
    starcoder: tokens.ChatTokenizer, starcoder_truth: Any
) -> None:
    def encode(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in starcoder_truth.encode_batch_fast(texts)]

    conversations = shared.conversations()
    wanted = expected(STARCODER, encode, conversations, [], 49152)
    found = [templates.render(STARCODER, starcoder, messages) for messages in conversations]
    assert [i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]] == []


def test_vectors(llama: tokens.ChatTokenizer, starcoder: tokens.ChatTokenizer) -> None:
    for name, tokenizer in (("llama-spm", llama), ("refact", starcoder)):
        found = list(shared.vectors(name))
        assert len(found) == 47
        assert [tokenizer.encode(text) for text, _ in found] == [ids for _, ids in found]


def test_hostile_texts(
    llama: tokens.ChatTokenizer,
    llama_truth: Any,
    starcoder: tokens.ChatTokenizer,
    starcoder_truth: Any,
) -> None:
    assert llama.encode_batch(TEXTS) == llama_truth.encode(TEXTS)
    assert starcoder.encode_batch(TEXTS) == [starcoder_truth.encode(text).ids for text in TEXTS]


@pytest.mark.slow
def test_many_nasty_strings(
    llama: tokens.ChatTokenizer,
    llama_truth: Any,
    starcoder: tokens.ChatTokenizer,
    starcoder_truth: Any,
) -> None:
    texts = nasty_texts(25_000, seed=7)
    assert llama.encode_batch(texts) == llama_truth.encode(texts)
    wanted = [encoding.ids for encoding in starcoder_truth.encode_batch(texts)]
    assert starcoder.encode_batch(texts) == wanted


@pytest.mark.slow
def test_every_piece_repeated(llama: tokens.ChatTokenizer, llama_truth: Any) -> None:
    pieces = [piece.strip("▁") for piece in llama.encoder.pieces.vocab]  # type: ignore[union-attr] # LLaMA's
    texts = [piece * times + tail for piece in pieces for times in (2, 5) for tail in ("", "e")]
    assert llama.encode_batch(texts) == llama_truth.encode(texts)


def test_the_tokenizer_json_of_llama_gives_the_same(
    llama: tokens.ChatTokenizer, tmp_path: Path
) -> None:
    source = shared.TOKENIZERS / "llama" / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(source.read_bytes())
    assert tokens.load_tokenizer(tmp_path, LLAMA).hash == llama.hash


@pytest.mark.parametrize("name", ["stories260K-hf", "stories3M-hf"])
def test_tokenisers_of_other_sizes(name: str) -> None:
    folder = shared.CHECKPOINTS / name
    tokenizer = tokens.load_tokenizer(folder, LLAMA)
    truth = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    texts = [*TEXTS, *nasty_texts(2000, seed=8)]
    assert tokenizer.encode_batch(texts) == truth.encode(texts)


def test_what_the_original_code_made(llama: tokens.ChatTokenizer) -> None:
    """961 ids and their mask from the data code of OpenChat v3.2, rendered anew by ours."""
    path = shared.TOKENIZERS / "golden_tokens_v3.2_sample21204.json"
    row = json.loads(path.read_text())["row"]
    ids, mask = row["0_tokens"][0], row["0_masks"][0]
    roles = {"user": "GPT3 User:", "assistant": "GPT3 Assistant:"}
    kind = dataclasses.replace(LLAMA, roles=MappingProxyType(roles))
    messages: list[Message] = []
    segment: list[int] = []
    for token in ids[1:]:
        if token != llama.eot_id:
            segment.append(token)
            continue
        role = "user" if len(messages) % 2 == 0 else "assistant"
        prefix = llama.encode(roles[role])
        assert segment[: len(prefix)] == prefix
        messages.append(Message(role, llama.decode(segment[len(prefix) :])))
        segment = []
    rendered = templates.render(kind, llama, messages)
    assert rendered.ids[: len(ids)] == ids[: len(rendered.ids)]
    assert len(messages) >= 4
    learned = [token for token, kept in zip(ids, mask, strict=True) if kept]
    assert learned == [
        token for token, kept in zip(rendered.ids, rendered.mask, strict=True) if kept
    ]
