"""SentencePiece BPE models (`tokenizer.model`) read and encoded without the sentencepiece package.

The file is a protobuf message; the few fields that decide the ids are read here. Encoding follows
SentencePiece: spaces become U+2581, a dummy one goes before the text, then pieces merge by score.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import InputError
from openchat_cli.core.words import WordMemory

if TYPE_CHECKING:
    from tokenizers.models import BPE

SPACE = "▁"  # how SentencePiece writes a space
BYTE_PIECES = tuple(f"<0x{value:02X}>" for value in range(256))

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_BPE = 2  # TrainerSpec.model_type


@dataclass(frozen=True)
class Pieces:
    """A SentencePiece BPE vocabulary: everything that decides the ids of plain text.

    `vocab` maps every piece to its id, `merges` lists the pairs that join, best first. `control`
    are the pieces that no text may become (BOS, EOS and the like). `dummy_prefix` puts a space
    before each text; `fold_spaces` drops spaces at both ends and all but one of a run.
    """

    vocab: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    control: frozenset[str]
    unknown: str
    dummy_prefix: bool = True
    fold_spaces: bool = False


# --- reading tokenizer.model ---


def read_model(path: Path) -> Pieces:
    """The vocabulary of a `tokenizer.model`.

    Raises InputError where the file is damaged, or is a kind whose ids can't be given exactly.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    try:
        return _parse(path, data)
    except (IndexError, ValueError, TypeError, struct.error):
        raise InputError(f"{path}: not a whole SentencePiece model") from None


def _parse(path: Path, data: bytes) -> Pieces:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(value))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    _refuse_other_kinds(path, pieces, trainer, normalizer)
    vocab = {piece: index for index, (piece, _, _) in enumerate(pieces)}
    if len(vocab) != len(pieces):
        raise InputError(f"{path}: has the same piece twice")
    return Pieces(
        vocab=vocab,
        merges=_merges(pieces, vocab),
        control=frozenset(piece for piece, _, kind in pieces if kind == _CONTROL),
        unknown=next(piece for piece, _, kind in pieces if kind == _UNKNOWN),
        dummy_prefix=bool(normalizer.get(3, 1)),
        fold_spaces=bool(normalizer.get(4, 1)),
    )


def _refuse_other_kinds(
    path: Path,
    pieces: Sequence[tuple[str, float, int]],
    trainer: Mapping[int, Any],
    normalizer: Mapping[int, Any],
) -> None:
    if not trainer or not any(kind == _UNKNOWN for _, _, kind in pieces):
        raise InputError(f"{path}: not a whole SentencePiece model")
    reason = None
    special = [piece for piece, _, kind in pieces if kind in (_USER_DEFINED, _UNUSED)]
    if trainer.get(3, 1) != _BPE:
        reason = "is not a BPE model (unigram, word and character models are not supported)"
    elif normalizer.get(2):
        reason = "rewrites characters before encoding (only the identity normaliser is supported)"
    elif not normalizer.get(5, 1):
        reason = "keeps spaces unescaped"
    elif trainer.get(24, 0):
        reason = "puts the space after the word"
    elif sum(kind == _BYTE for _, _, kind in pieces) != 256:
        reason = "has no byte pieces: characters that it lacks would be lost"
    elif special:
        reason = f"has user-defined or unused pieces, such as {special[0]!r}"
    if reason is not None:
        raise InputError(f"{path}: this SentencePiece model {reason}")


def _piece(data: bytes) -> tuple[str, float, int]:
    # Nearly all are a short text and a score, and no more.
    end = data[1] + 2
    if data[0] == 0x0A and len(data) == end + 5 and data[end] == 0x15 and end < 130:
        return data[2:end].decode(), struct.unpack_from("<f", data, end + 1)[0], _NORMAL
    text, score, kind = "", 0.0, _NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = value.decode()
        elif number == 2:
            score = struct.unpack("<f", value)[0]
        elif number == 3:
            kind = value
    return text, score, kind


def _merges(
    pieces: Sequence[tuple[str, float, int]], vocab: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Every pair of pieces that joins into a third, in the order in which SentencePiece would."""
    normal = [(piece, score) for piece, score, kind in pieces if kind == _NORMAL]
    id_of = {piece: vocab[piece] for piece, _ in normal}.get
    found = [
        (-score, vocab[piece], left, right)
        for piece, score in normal
        for cut in range(1, len(piece))
        if (left := id_of(piece[:cut])) is not None and (right := id_of(piece[cut:])) is not None
    ]
    names = [piece for piece, _, _ in pieces]
    return [(names[left], names[right]) for _, _, left, right in sorted(found)]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of one protobuf message: integers, or the bytes of anything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value: int | bytes
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(wire, len(data) + 1)
        if at + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 128:  # nearly all
        return data[at], at + 1
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


# --- encoding ---


class SentencePieceEncoder:
    """Plain text to ids, as SentencePiece gives them.

    A text is first cut where no piece can reach across, and each word's ids are remembered:
    several times faster than merging whole texts, with the same result.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self._cut = _word_pattern(pieces.merges)
        self._memory = WordMemory(self._tokenize)

    @cached_property
    def _bpe(self) -> BPE:
        from tokenizers.models import BPE

        return BPE(
            vocab=dict(self.pieces.vocab),
            merges=list(self.pieces.merges),
            unk_token=self.pieces.unknown,
            fuse_unk=True,
            byte_fallback=True,
            cache_capacity=0,  # words come once: the memory here has them after that
        )

    def packed(self, words: Iterable[str]) -> bytes:
        """The ids of a text that was cut by `words`, as words.unpack reads them."""
        return self._memory.packed(words)

    def _tokenize(self, word: str) -> list[int]:
        # The model alone: nothing is normalised or split any more, and an Encoding costs more
        # than the merging of a word.
        return [token.id for token in self._bpe.tokenize(word.replace(" ", SPACE))]

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the text, in UTF-8: nothing for control tokens."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def text(self, data: bytes) -> bytes:
        """Joined token bytes as text: without the dummy space that encoding put before it."""
        return data.removeprefix(b" ") if self.pieces.dummy_prefix else data

    def words(self, text: str) -> list[str]:
        """The text cut where no piece can reach across; each word has at least one id."""
        if self.pieces.fold_spaces:
            text = _RUNS.sub(" ", text.lstrip(" "))
        # Both are one character to a model. As a plain space it leaves most texts ASCII, which is
        # faster to cut.
        text = text.replace(SPACE, " ")
        if self.pieces.fold_spaces:
            text = text.rstrip(" ")
        if not text:
            return []
        if self.pieces.dummy_prefix:
            text = " " + text
        return self._cut.findall(text)

    @cached_property
    def _bytes(self) -> list[bytes]:
        silent = self.pieces.control | {self.pieces.unknown}
        table = [b""] * (max(self.pieces.vocab.values()) + 1)
        for piece, token in self.pieces.vocab.items():
            if piece not in silent:
                table[token] = piece.replace(SPACE, " ").encode()
        for value, piece in enumerate(BYTE_PIECES):
            table[self.pieces.vocab[piece]] = bytes([value])
        return table


_RUNS = re.compile(" +")
_GROUPS = 3  # of characters, which are kept apart


def _word_pattern(merges: Sequence[tuple[str, str]]) -> re.Pattern[str]:
    """Cuts a text into words that no piece reaches across.

    A word is a run of spaces followed by characters of one group (see `_groups`: in LLaMA's
    vocabulary Latin letters, Cyrillic ones, signs, …); every other character (most of Chinese, the
    newline) stands alone. Where a merge has a space after another character the cut would be wrong,
    and the whole text is one word.
    """
    touching = {(left[-1], right[0]) for left, right in merges}
    if any(right == SPACE != left for left, right in touching):
        return re.compile("(?s).+")
    groups = _groups((left, right) for left, right in touching if left != SPACE)
    # Few alternatives are faster; a cut too few does no harm.
    groups[_GROUPS:] = filter(None, [set().union(*groups[_GROUPS:])])
    letters = "".join(f"[{_character_class(group)}]+|" for group in groups)
    return re.compile(f"(?s) *(?:{letters}.)| +")


def _groups(touching: Iterable[tuple[str, str]]) -> list[set[str]]:
    """The characters that touch inside pieces, in groups that don't touch; the largest first.

    Two characters are neighbours in a piece only where some merge joined them there.
    """
    group_of: dict[str, set[str]] = {}
    for left, right in touching:
        group = group_of.setdefault(left, {left})
        other = group_of.setdefault(right, {right})
        if group is not other:
            group |= other
            group_of.update(dict.fromkeys(other, group))
    groups = {id(group): group for group in group_of.values()}
    return sorted(groups.values(), key=len, reverse=True)


def _character_class(characters: Iterable[str]) -> str:
    codes = sorted(map(ord, characters))
    parts: list[str] = []
    start = codes[0]
    for code, after in zip(codes, [*codes[1:], -1], strict=True):
        if after != code + 1:
            parts.append(f"{re.escape(chr(start))}-{re.escape(chr(code))}")
            start = after
    return "".join(parts)
