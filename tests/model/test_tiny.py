"""The tiny base model: a LLaMA like any other to what comes after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_cli.core import records, registry
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.records import Conversation, Message
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.model.tiny import TinySettings, make_tiny, train_tokenizer

TEXTS = ["Where is the tent?", "The tent is on shelf C1,\nbelow the stairs.", "帐篷在哪里？"] * 20


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    messages = tuple(Message("user", text) for text in TEXTS)
    records.write(path, [Conversation(id="a", source="", messages=messages)])
    return path


def test_its_tokeniser_is_one_of_llama(corpus: Path, tmp_path: Path) -> None:
    summary = make_tiny(TinySettings(corpus, tmp_path / "base", vocab_size=320))
    tokenizer = load_tokenizer(tmp_path / "base", registry.get("openchat"))
    assert summary.vocab_size == 320
    assert tokenizer.bos_id == 1
    assert tokenizer.eot_id == 320
    assert not tokenizer.has_eot
    for text in [*TEXTS, "unseen: \t\r\n\0 éµ 🛶 <s>", ""]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("the tent")) < len("the tent")


def test_the_same_corpus_gives_the_same_files(corpus: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_tiny(TinySettings(corpus, tmp_path / name, vocab_size=320))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_pieces_have_a_space_only_at_their_start() -> None:
    pieces = train_tokenizer(TEXTS, 400)["model"]["vocab"]
    assert not [piece for piece in pieces if "▁" in piece.lstrip("▁") or "\n" in piece]


def test_it_refuses_what_can_not_be(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "base"
    with pytest.raises(UsageError, match="over 259 pieces"):
        make_tiny(TinySettings(corpus, out, vocab_size=200))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match="no conversations"):
        make_tiny(TinySettings(tmp_path / "empty.jsonl", out))
    out.mkdir()
    (out / "config.json").touch()
    with pytest.raises(UsageError, match="already holds a model"):
        make_tiny(TinySettings(corpus, out))
