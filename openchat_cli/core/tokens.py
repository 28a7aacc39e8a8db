"""The tokeniser of a model folder, made exact: plain text to ids, control tokens added by hand.

The tokeniser that sees a user's text knows no control token, so none can be written into it. It is
built anew from the folder's own vocabulary: `tokenizer.model` where there is one (SentencePiece is
the truth for LLaMA), else `tokenizer.json`; a wrong conversion beside it does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from openchat_cli.core import jsonl, tokenizer_json
from openchat_cli.core.bytelevel import ByteLevelEncoder
from openchat_cli.core.errors import InputError
from openchat_cli.core.manifest import Manifest, read_manifest, resolve_type
from openchat_cli.core.registry import ModelType
from openchat_cli.core.sentencepiece import Pieces, SentencePieceEncoder, read_model
from openchat_cli.core.templates import template_hash
from openchat_cli.core.words import unpack

__all__ = ["ChatTokenizer", "Manifest", "load_tokenizer", "read_manifest", "resolve_type"]

Compat = Literal["own", "reference"]


class Encoder(Protocol):
    """Plain text to ids and back: SentencePieceEncoder or ByteLevelEncoder."""

    def words(self, text: str) -> list[str]: ...

    def packed(self, words: Iterable[str]) -> bytes: ...

    def token_bytes(self, token: int) -> bytes: ...

    def text(self, data: bytes) -> bytes: ...


class ChatTokenizer:
    """The tokeniser of one model type over one model's vocabulary.

    `eot_id` is the end-of-turn token's id, also where the base model still lacks it: then it is the
    next free one, as `model prepare` adds it.
    """

    def __init__(
        self,
        encoder: SentencePieceEncoder | ByteLevelEncoder,
        *,
        control: Mapping[str, int],
        bos_id: int | None,
        eot_id: int,
        has_eot: bool = True,
    ) -> None:
        self.encoder = encoder
        self.control = control  # every control token and its id, EOT included
        self.bos_id = bos_id
        self.eot_id = eot_id
        self.has_eot = has_eot  # whether the folder's own tokeniser has it
        self.vocab_size = 1 + max(eot_id, *_vocab(encoder).values(), *control.values())

    def encode(self, text: str) -> list[int]:
        """The ids of plain text: nothing added, no control token recognised.

        A lone surrogate, which no UTF-8 can hold, becomes U+FFFD.
        """
        encoder = self.encoder
        try:
            return unpack(encoder.packed(encoder.words(text)))
        except (TypeError, UnicodeEncodeError):
            return unpack(encoder.packed(encoder.words(whole_characters(text))))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [self.encode(text) for text in texts]

    def words(self, text: str) -> list[str]:
        """The text cut where no token can reach across; each word has at least one id.

        The text must be of whole characters (see `whole_characters`).
        """
        return self.encoder.words(text)

    def packed(self, words: Iterable[str]) -> bytes:
        """The ids of a text given as its words, for words.unpack: for work in bulk."""
        return self.encoder.packed(words)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens give nothing, bytes that are not UTF-8 give U+FFFD."""
        data = b"".join(map(self.encoder.token_bytes, ids))
        return self.encoder.text(data).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """What one token adds to a text, in UTF-8 (perhaps part of a character).

        The first token of a SentencePiece text brings a space that `decode` takes away.
        """
        return self.encoder.token_bytes(token)

    @cached_property
    def hash(self) -> str:
        """A short name for the ids: equal hashes mean equal ids for every text."""
        encoder = self.encoder
        if isinstance(encoder, SentencePieceEncoder):
            pieces = encoder.pieces
            rules: Any = ["sentencepiece", pieces.dummy_prefix, pieces.fold_spaces]
            merges = pieces.merges
        else:
            rules = ["byte-level", encoder.normalizers, encoder.pre_tokenizers]
            merges = encoder.merges
        vocab = sorted(_vocab(encoder).items(), key=lambda item: item[1])
        parts = [rules, vocab, merges, self.bos_id, self.eot_id]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_tokenizer(path: Path, kind: ModelType, *, compat: Compat = "own") -> ChatTokenizer:
    """The tokeniser of a base, prepared or trained model's folder, checked for the type.

    `compat="reference"` gives the ids of the slow tokeniser of 2023 for StarCoder (no digit
    splitter). Raises InputError with the reason where the folder's tokeniser can't be right.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder", "a model folder holds config.json and weights")
    file = _tokenizer_file(path)
    encoder: SentencePieceEncoder | ByteLevelEncoder
    if kind.tokenizer == "sentencepiece":
        encoder = SentencePieceEncoder(_pieces(path, kind, file))
    else:
        if file is None:
            message = f"{path}: no tokenizer.json, which model type {kind.name} needs"
            raise InputError(message, "take it from the base model's repository")
        encoder = ByteLevelEncoder(file, digits=compat == "own")
    tokenizer = _with_control_tokens(path, kind, encoder, _added_tokens(path, file))
    _check_text_stays_text(path, tokenizer)
    _check_manifest(path, kind, tokenizer, compat)
    return tokenizer


def _tokenizer_file(path: Path) -> tokenizer_json.TokenizerFile | None:
    found = path / "tokenizer.json"
    return tokenizer_json.read(found) if found.is_file() else None


def _pieces(path: Path, kind: ModelType, file: tokenizer_json.TokenizerFile | None) -> Pieces:
    model = path / "tokenizer.model"
    if not model.is_file():
        if file is not None:
            return tokenizer_json.pieces(file)
        message = f"{path}: no tokenizer there (tokenizer.model or tokenizer.json)"
        raise InputError(message, f"model type {kind.name} needs a SentencePiece tokeniser")
    pieces = read_model(model)
    if file is not None:
        known = {**file.vocab, **file.added}
        differ = [piece for piece, index in pieces.vocab.items() if known.get(piece) != index]
        if differ:
            raise InputError(
                f"{path}: tokenizer.json and tokenizer.model disagree about the id of "
                f"{differ[0]!r} and {len(differ) - 1} other pieces",
                "remove the one that does not belong to the weights",
            )
    return pieces


def _added_tokens(path: Path, file: tokenizer_json.TokenizerFile | None) -> dict[str, int]:
    """The tokens beside the vocabulary, from whichever of the folder's files lists them."""
    if file is not None:
        return dict(file.added)
    config = _optional_json(path / "tokenizer_config.json")
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, dict):
        return {entry["content"]: int(index) for index, entry in listed.items()}
    return {
        token: index
        for token, index in _optional_json(path / "added_tokens.json").items()
        if isinstance(index, int)
    }


def _optional_json(path: Path) -> dict[str, Any]:
    value = jsonl.read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _with_control_tokens(
    path: Path,
    kind: ModelType,
    encoder: SentencePieceEncoder | ByteLevelEncoder,
    added: Mapping[str, int],
) -> ChatTokenizer:
    vocab = _vocab(encoder)
    control = {token: index for token, index in added.items() if not token.isspace()}
    if isinstance(encoder, SentencePieceEncoder):
        silent = encoder.pieces.control | {encoder.pieces.unknown}
        control |= {token: vocab[token] for token in silent}
    bos_id = None
    if kind.bos is not None:
        bos_id = control.get(kind.bos, vocab.get(kind.bos))
        if bos_id is None:
            hint = f"conversations of model type {kind.name} begin with it"
            raise InputError(f"{path}: the tokeniser has no {kind.bos}", hint)
        control[kind.bos] = bos_id
    eot_id = control.get(kind.eot, vocab.get(kind.eot))
    has_eot = eot_id is not None
    if eot_id is None:
        eot_id = 1 + max(*vocab.values(), *control.values())
    control[kind.eot] = eot_id
    return ChatTokenizer(encoder, control=control, bos_id=bos_id, eot_id=eot_id, has_eot=has_eot)


def _vocab(encoder: SentencePieceEncoder | ByteLevelEncoder) -> Mapping[str, int]:
    return encoder.pieces.vocab if isinstance(encoder, SentencePieceEncoder) else encoder.vocab


def _check_text_stays_text(path: Path, tokenizer: ChatTokenizer) -> None:
    encoder = tokenizer.encoder
    merges = encoder.pieces.merges if isinstance(encoder, SentencePieceEncoder) else encoder.merges
    spelt = {left + right for left, right in merges}
    for token, index in tokenizer.control.items():
        if token in spelt or index in tokenizer.encode(token):
            raise InputError(f"{path}: {token} written in a text would become the control token")


def _check_manifest(path: Path, kind: ModelType, tokenizer: ChatTokenizer, compat: Compat) -> None:
    """Refuse a prepared model's tokeniser that is no longer the one it was prepared with."""
    manifest = read_manifest(path)
    if manifest is None:
        return
    reason = None
    if not tokenizer.has_eot or manifest.eot_id != tokenizer.eot_id:
        reason = f"{kind.eot} is not the one token {manifest.eot_id} that openchat.json names"
    elif (
        compat == "own"
        and manifest.template_hash == template_hash(kind)
        and manifest.tokenizer_hash != tokenizer.hash
    ):
        reason = "the tokeniser is not the one that openchat.json names"
    if reason is not None:
        hint = "its files were changed after `openchat model prepare`: prepare the model again"
        raise InputError(f"{path}: {reason}", hint)


def whole_characters(text: str) -> str:
    """The text with each lone surrogate, which no UTF-8 can hold, as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
