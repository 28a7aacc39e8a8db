"""Ids against SentencePiece and against `tokenizers`, the two truths."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from openchat_cli.core import registry, tokens
from openchat_cli.core.errors import InputError
from openchat_cli.core.sentencepiece import BYTE_PIECES
from tests.core.small import CORPUS, NASTY, make_sentencepiece, nasty_texts, plain

LLAMA = registry.get("openchat")
STARCODER = registry.get("opencoder")


def truth(folder: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def differing(texts: list[str], found: list[list[int]], wanted: list[list[int]]) -> list[str]:
    return [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]


# --- ids ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"split_by_whitespace": False},
    ],
    ids=["llama", "folded spaces", "no dummy prefix", "pieces across spaces"],
)
def test_ids_are_those_of_sentencepiece(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = make_sentencepiece(tmp_path / "model", **options)
    tokenizer = tokens.load_tokenizer(folder, LLAMA)
    texts = [*NASTY, *CORPUS[:6], *nasty_texts(3000, seed=1)]
    assert not differing(texts, tokenizer.encode_batch(texts), truth(folder).encode(texts))


def test_pieces_that_overlap_themselves_merge_as_in_sentencepiece(llama_like: Path) -> None:
    tokenizer = tokens.load_tokenizer(llama_like, LLAMA)
    vocab = tokenizer.encoder.pieces.vocab  # type: ignore[union-attr] # LLaMA's is one of pieces
    bases = {piece.strip("▁") for piece in vocab if piece not in BYTE_PIECES}
    texts = [base * times + tail for base in bases for times in (2, 3, 5, 8) for tail in ("", "a")]
    assert not differing(texts, tokenizer.encode_batch(texts), truth(llama_like).encode(texts))


def test_ids_are_those_of_a_byte_level_tokenizer(starcoder_like: Path) -> None:
    tokenizer = tokens.load_tokenizer(starcoder_like, STARCODER)
    reference = plain(starcoder_like / "tokenizer.json")
    texts = [*NASTY, *CORPUS[:6], *nasty_texts(3000, seed=2)]
    wanted = [reference.encode(text).ids for text in texts]
    assert not differing(texts, tokenizer.encode_batch(texts), wanted)


def test_reference_compatibility_joins_digits(starcoder_like: Path) -> None:
    own = tokens.load_tokenizer(starcoder_like, STARCODER)
    reference = tokens.load_tokenizer(starcoder_like, STARCODER, compat="reference")
    assert own.encode("no figures") == reference.encode("no figures")
    assert len(own.encode("1234 5678")) > len(reference.encode("1234 5678"))
    assert own.hash != reference.hash


def test_one_text_and_many_texts_give_the_same(llama_like: Path) -> None:
    tokenizer = tokens.load_tokenizer(llama_like, LLAMA)
    assert tokenizer.encode_batch(NASTY) == [tokenizer.encode(text) for text in NASTY]
    assert tokenizer.encode_batch([]) == []


@pytest.mark.parametrize("name", ["llama_like", "starcoder_like"])
def test_control_tokens_in_a_text_stay_text(name: str, request: pytest.FixtureRequest) -> None:
    kind = LLAMA if name == "llama_like" else STARCODER
    tokenizer = tokens.load_tokenizer(request.getfixturevalue(name), kind)
    control = set(tokenizer.control.values())
    texts = [*tokenizer.control, *NASTY, *nasty_texts(500, seed=3)]
    assert len(control) >= 4
    assert not control & {token for ids in tokenizer.encode_batch(texts) for token in ids}


@pytest.mark.parametrize("name", ["llama_like", "starcoder_like"])
def test_decoding_gives_the_text_back(name: str, request: pytest.FixtureRequest) -> None:
    kind = LLAMA if name == "llama_like" else STARCODER
    tokenizer = tokens.load_tokenizer(request.getfixturevalue(name), kind)
    # U+2581 is how SentencePiece writes a space.
    texts = [text for text in [*NASTY, *nasty_texts(500, seed=4)] if "▁" not in text]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.decode([*ids, tokenizer.eot_id]) == text
        assert b"".join(map(tokenizer.token_bytes, ids)).decode().removeprefix(" ") == (
            text if name == "llama_like" else text.removeprefix(" ")
        )


def test_half_a_character_decodes_to_a_replacement(llama_like: Path) -> None:
    tokenizer = tokens.load_tokenizer(llama_like, LLAMA)
    assert tokenizer.decode(tokenizer.encode("ab🦙")[:-1]).startswith("ab\ufffd")
    assert tokenizer.decode([10**9, -1]) == ""


@pytest.mark.parametrize("name", ["llama_like", "starcoder_like"])
def test_a_lone_surrogate_becomes_a_replacement(name: str, request: Any) -> None:
    kind = LLAMA if name == "llama_like" else STARCODER
    tokenizer = tokens.load_tokenizer(request.getfixturevalue(name), kind)
    assert tokenizer.encode("a\ud83dz 🙂") == tokenizer.encode("a\ufffdz 🙂")


@pytest.mark.parametrize("unit", ["a", "ab", " ", "=", "中", "🦙", "\n", "1"])
@pytest.mark.timeout(60)  # some 0.2 s; anything quadratic takes minutes
def test_huge_words_come_to_an_end(llama_like: Path, starcoder_like: Path, unit: str) -> None:
    for folder, kind in ((llama_like, LLAMA), (starcoder_like, STARCODER)):
        tokenizer = tokens.load_tokenizer(folder, kind)
        text = unit * (400_000 // len(unit.encode()))
        ids = tokenizer.encode(text)
        if kind is LLAMA:
            assert ids == truth(folder).encode(text)
        else:
            assert ids == plain(folder / "tokenizer.json").encode(text).ids


# --- control tokens, hashes ---


def test_the_end_of_turn_token_is_the_next_free_id(llama_like: Path, starcoder_like: Path) -> None:
    llama = tokens.load_tokenizer(llama_like, LLAMA)
    assert (llama.bos_id, llama.eot_id, llama.vocab_size, llama.has_eot) == (1, 700, 701, False)
    starcoder = tokens.load_tokenizer(starcoder_like, STARCODER)
    size = plain(starcoder_like / "tokenizer.json").get_vocab_size()
    assert (starcoder.bos_id, starcoder.eot_id, starcoder.vocab_size) == (None, size, size + 1)


def test_an_added_end_of_turn_token_is_found(llama_like: Path, tmp_path: Path) -> None:
    for name, value in (
        ("added_tokens.json", {"[PAD]": 700, "<|end_of_turn|>": 701}),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"701": {"content": "<|end_of_turn|>"}}},
        ),
    ):
        folder = tmp_path / name
        shutil.copytree(llama_like, folder)
        (folder / name).write_text(json.dumps(value))
        tokenizer = tokens.load_tokenizer(folder, LLAMA)
        assert (tokenizer.eot_id, tokenizer.vocab_size, tokenizer.has_eot) == (701, 702, True)


def test_the_hash_names_the_ids(llama_like: Path, tmp_path: Path) -> None:
    base = tokens.load_tokenizer(llama_like, LLAMA)
    assert base.hash == tokens.load_tokenizer(llama_like, registry.get("openchat_8192")).hash
    other = make_sentencepiece(tmp_path / "other", vocab_size=690)
    assert tokens.load_tokenizer(other, LLAMA).hash != base.hash
    assert len(base.hash) == 16


# --- a tokeniser that is wrong is repaired or refused ---


def converted(folder: Path, out: Path, **changes: Any) -> Path:
    """A tokenizer.json made of a tokenizer.model as other programs make it."""
    pieces = tokens.load_tokenizer(folder, LLAMA).encoder.pieces  # type: ignore[union-attr] # as above
    out.mkdir()
    special = [
        {"id": index, "content": token, "special": True, "normalized": False}
        for index, token in enumerate(["<unk>", "<s>", "</s>"])
    ]
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": dict(pieces.vocab),
        "merges": [list(pair) for pair in pieces.merges],
    }
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    value = {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, space],
        },
        "pre_tokenizer": None,
        "model": model | changes.pop("model", {}),
        **changes,
    }
    (out / "tokenizer.json").write_text(json.dumps(value))
    return out


METASPACE = {
    "normalizer": None,
    "pre_tokenizer": {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    },
}


@pytest.mark.parametrize("changes", [{}, METASPACE], ids=["legacy", "metaspace"])
def test_a_conversion_is_repaired(llama_like: Path, tmp_path: Path, changes: Any) -> None:
    folder = converted(llama_like, tmp_path / "json", **changes)
    repaired = tokens.load_tokenizer(folder, LLAMA)
    texts = [*NASTY, *nasty_texts(1000, seed=5)]
    assert not differing(texts, repaired.encode_batch(texts), truth(llama_like).encode(texts))
    assert repaired.hash == tokens.load_tokenizer(llama_like, LLAMA).hash


def test_merges_that_reach_control_tokens_are_left_out(llama_like: Path, tmp_path: Path) -> None:
    pieces = tokens.load_tokenizer(llama_like, LLAMA).encoder.pieces  # type: ignore[union-attr] # as above
    vocab = {**pieces.vocab, "s>": 700}
    merges = [["s", ">"], ["<", "s>"], *[list(pair) for pair in pieces.merges]]
    folder = converted(llama_like, tmp_path / "json", model={"vocab": vocab, "merges": merges})
    assert 1 not in tokens.load_tokenizer(folder, LLAMA).encode("<s>")


def refusal(folder: Path, kind: registry.ModelType = LLAMA) -> str:
    with pytest.raises(InputError) as caught:
        tokens.load_tokenizer(folder, kind)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_what_can_not_be_right_is_refused(
    llama_like: Path, starcoder_like: Path, tmp_path: Path
) -> None:
    assert "no such folder" in refusal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no tokenizer" in refusal(tmp_path / "empty")
    assert "no tokenizer.json" in refusal(llama_like, STARCODER)
    assert "is byte-level" in refusal(starcoder_like)
    assert "not a byte-level one" in refusal(converted(llama_like, tmp_path / "bytes"), STARCODER)
    no_bytes = converted(llama_like, tmp_path / "no-bytes", model={"byte_fallback": False})
    assert "without byte fallback" in refusal(no_bytes)
    vocab = {piece: i for i, piece in enumerate(["<unk>", "</s>", *BYTE_PIECES, "a"])}
    small = {"vocab": vocab, "merges": []}
    no_bos = converted(llama_like, tmp_path / "no-bos", model=small, added_tokens=[])
    assert "has no <s>" in refusal(no_bos)
    lowercase = converted(llama_like, tmp_path / "lower", normalizer={"type": "Lowercase"})
    assert "Lowercase" in refusal(lowercase)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram", "vocab_size": 400}, "not a BPE model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "rewrites characters"),
        ({"byte_fallback": False, "vocab_size": 400}, "no byte pieces"),
        ({"user_defined_symbols": ["<sep>"]}, "user-defined"),
        ({"treat_whitespace_as_suffix": True}, "space after the word"),
    ],
)
def test_other_sentencepiece_models_are_refused(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(make_sentencepiece(tmp_path / "model", **options))


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_a_damaged_model_is_refused(llama_like: Path, tmp_path: Path, keep: int) -> None:
    data = (llama_like / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(data[:keep] if keep >= 0 else b"\xff" * 100)
    assert "not a whole SentencePiece model" in refusal(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"model": {"type": "Unigram", "vocab": []}}', '{"model": {"vocab": {}}}'],
)
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    assert str(tmp_path) in refusal(tmp_path)


def test_two_files_that_disagree_are_refused(llama_like: Path, tmp_path: Path) -> None:
    other = make_sentencepiece(tmp_path / "other", vocab_size=650)
    folder = converted(other, tmp_path / "both")
    shutil.copy(llama_like / "tokenizer.model", folder)
    assert "disagree" in refusal(folder)


def test_an_end_of_turn_token_that_text_can_spell_is_refused(
    llama_like: Path,
) -> None:
    merges = tokens.load_tokenizer(llama_like, LLAMA).encoder.pieces.merges  # type: ignore[union-attr] # as above
    kind = dataclasses.replace(LLAMA, eot="".join(merges[0]))
    with pytest.raises(InputError, match="written in a text"):
        tokens.load_tokenizer(llama_like, kind)
