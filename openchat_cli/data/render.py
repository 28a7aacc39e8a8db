"""Conversations as rows of ids, weights and text.

As core/templates.py lays them out, but in bulk: ids stay packed, and what lies beyond the context
is not tokenised where it is not needed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from openchat_cli.core.registry import ModelType
from openchat_cli.core.templates import Turn
from openchat_cli.core.tokens import ChatTokenizer, whole_characters
from openchat_cli.core.words import ID, ID_BYTES, unpack
from openchat_cli.data.spool import TokenRow, text_json

_SINGLE = struct.Struct("<f")


@dataclass
class Laid:
    """A conversation on its way: its turns and the ids of each text."""

    turns: Sequence[Turn]
    weight: float = 1.0
    ids: list[bytes] = field(default_factory=list)
    whole: bool = True  # False where what lies beyond the context was left out
    trimmed: bool = False  # whether the last text lacks its end


class CutRow(NamedTuple):
    """A row within the context."""

    row: TokenRow
    length: int  # tokens
    learned: int  # of them
    truncated: bool


class Renderer:
    """Lays conversations out for one model type."""

    def __init__(self, kind: ModelType, tokenizer: ChatTokenizer, context: int) -> None:
        self._tokenizer, self._context = tokenizer, context
        prefixes = kind.roles.values()
        self._prefixes = {text: tokenizer.packed(tokenizer.words(text)) for text in prefixes}
        bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        self._bos = _pack(bos)
        self._eot = _pack([tokenizer.eot_id])
        self._bos_text = (kind.bos or "") if bos else ""
        self._eot_text = kind.eot

    def cut(self, turns: Sequence[Turn], weight: float, *, all_of_it: bool) -> Laid:
        """The ids of a conversation, unless `all_of_it` only those that can be in the context.

        Each word has at least one id, so that no more words than tokens can be needed.
        """
        laid = Laid(turns, weight)
        left = self._context - len(self._bos) // ID_BYTES
        for turn in turns:
            if left <= 0 and not all_of_it:
                laid.whole = False
                break
            left -= len(self._prefixes[turn.prefix]) // ID_BYTES
            words = self._tokenizer.words(whole_characters(turn.message.content))
            if len(words) > left and not all_of_it:
                laid.whole, laid.trimmed = False, True
                del words[max(0, left) :]
            ids = self._tokenizer.packed(words)
            laid.ids.append(ids)
            left -= len(ids) // ID_BYTES + 1
        return laid

    def size(self, turns: Sequence[Turn], ids: Sequence[bytes]) -> int:
        """Tokens of these turns without BOS."""
        fixed = sum(len(self._prefixes[turn.prefix]) + ID_BYTES for turn in turns)
        return (fixed + sum(map(len, ids))) // ID_BYTES

    @property
    def room(self) -> int:
        """Tokens of the context after BOS."""
        return self._context - len(self._bos) // ID_BYTES

    def row(self, laid: Laid) -> CutRow:
        """The conversation cut to the context."""
        parts, texts = [self._bos], [self._bos_text]
        runs: list[tuple[int, float]] = [(len(self._bos) // ID_BYTES, 0.0)]
        for turn, ids in zip(laid.turns, laid.ids, strict=False):
            prefix = self._prefixes[turn.prefix]
            parts += (prefix, ids, self._eot)
            texts += (turn.prefix, turn.message.content, self._eot_text)
            weight = _weight(turn, laid.weight)
            runs += ((len(prefix) // ID_BYTES, 0.0), (len(ids) // ID_BYTES + 1, weight))
        packed = b"".join(parts)
        limit = self._context * ID_BYTES
        truncated = len(packed) > limit or not laid.whole
        if truncated:
            lacking = len(parts) - 2 if laid.trimmed else -1
            packed, text = packed[:limit], self._cut_text(parts, texts, limit, lacking)
        else:
            text = "".join(texts)
        length = len(packed) // ID_BYTES
        merged = _merged(runs, length)
        learned = sum(count for count, weight in merged if weight)
        row = TokenRow(packed, merged, text_json(whole_characters(text)))
        return CutRow(row, length, learned, truncated)

    def _cut_text(
        self, parts: Sequence[bytes], texts: Sequence[str], limit: int, lacking: int
    ) -> str:
        """The texts of the parts within the limit; of the part that is cut, what its ids say."""
        shown: list[str] = []
        for at, (ids, text) in enumerate(zip(parts, texts, strict=True)):
            if len(ids) > limit or at == lacking:
                shown.append(self._tokenizer.decode(unpack(ids[:limit])))
                break
            shown.append(text)
            limit -= len(ids)
        return "".join(shown)


def _weight(turn: Turn, of_conversation: float) -> float:
    if not turn.learned:
        return 0.0
    own = turn.message.weight
    weight = of_conversation * (1.0 if own is None else own)
    # As the file will hold it: what is 0 there is not learned.
    return 1.0 if weight == 1 else float(_SINGLE.unpack(_SINGLE.pack(weight))[0])


def _merged(runs: Iterable[tuple[int, float]], length: int) -> list[tuple[int, float]]:
    """The runs over the first `length` tokens, neighbours of one weight joined."""
    merged: list[tuple[int, float]] = []
    left = length
    for count, weight in runs:
        count = min(count, left)
        left -= count
        if not count:
            continue
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + count, weight)
        else:
            merged.append((count, weight))
    return merged


def _pack(ids: Iterable[int]) -> bytes:
    return array(ID, ids).tobytes()
