"""Byte-level BPE (GPT-2, StarCoder, Llama 3): plain text to ids by the model's own rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from openchat_cli.core.errors import InputError
from openchat_cli.core.tokenizer_json import TokenizerFile
from openchat_cli.core.words import WordMemory

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import Model


# Where text is ASCII, GPT-2's own rule, so that every word is what its splitter makes of it: the
# endings of contractions, a run of letters or of signs with the space before it, spaces but the
# last. What a character beyond ASCII, a digit or a control might prolong is left to the last two
# alternatives, which only cut where spaces begin: no rule looks back over that. (U+180E was a space
# to older versions of Unicode.)
_PLAIN = (
    r"'(?:s|t|re|ve|m|ll|d)"
    r"| ?+[A-Za-z]++(?![^\x00-\x7f])"
    r"| ?+[!-/:-@\[-`{-~]++(?![^\t-\r -~])"
    r"|[ \t-\r]+(?=[ \t-\r][!-/:-~])"
    r"|[\t-\r](?=[!-/:-~])"
)
_UNITS = re.compile(rf"{_PLAIN}|[\s\u180e]*[^\s\u180e]+|[\s\u180e]+")
# Where every digit is a token, it is a word as well.
_UNITS_AND_DIGITS = re.compile(rf"{_PLAIN}|[0-9]|[\s\u180e]*[^\s\u180e0-9]+|[\s\u180e]+")
_WHOLE = re.compile(r"(?s).+")
# What GPT-2's rule takes as one: ASCII letters, or signs, with the space before them.
_UNSPLIT = re.compile(r" ?(?:[A-Za-z]+|[!-/:-@\[-`{-~]+)")


class ByteLevelEncoder:
    """Plain text to ids with the file's vocabulary, normaliser and splitters, no control tokens.

    `digits=False` leaves out the splitter that makes every digit its own token, as the slow
    tokeniser of 2023 did for StarCoder.
    """

    def __init__(self, file: TokenizerFile, *, digits: bool = True) -> None:
        self.vocab = file.vocab
        self.merges = file.merges
        self.pre_tokenizers = [
            item for item in file.pre_tokenizers if digits or item["type"] != "Digits"
        ]
        self.normalizers = file.normalizers
        self._model = file.model
        self._text_tokens = {token: index for token, index in file.added.items() if token.isspace()}
        self.control = frozenset(file.added.keys() - self._text_tokens.keys())
        self._check(file)
        self._cut = self._word_pattern()
        self._memory = WordMemory(self._tokenize)

    def _check(self, file: TokenizerFile) -> None:
        if not any(item["type"] == "ByteLevel" for item in self.pre_tokenizers):
            raise InputError(f"{file.path}: this tokeniser is not a byte-level one")
        missing = [value for value in _NEEDED if _ALPHABET[value] not in self.vocab]
        if missing:
            raise InputError(f"{file.path}: {len(missing)} bytes have no token, text would be lost")

    def spec(self) -> dict[str, Any]:
        """A `tokenizer.json` that recognises no control token."""
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [text_token(*item) for item in self._text_tokens.items()],
            "normalizer": {"type": "Sequence", "normalizers": list(self.normalizers)},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(self.pre_tokenizers)},
            "post_processor": None,
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                **self._model,
                "vocab": dict(self.vocab),
                "merges": [list(pair) for pair in self.merges],
            },
        }

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(self.spec()))

    @cached_property
    def _bpe(self) -> Model:
        model: Model = self._tokenizer.model
        return model

    def words(self, text: str) -> list[str]:
        """The text cut where no token can reach across; each word has at least one id."""
        return self._cut.findall(text)

    def packed(self, words: Iterable[str]) -> bytes:
        """The ids of a text that was cut by `words`, as words.unpack reads them."""
        return self._memory.packed(words)

    def _tokenize(self, word: str) -> list[int]:
        # What the splitter leaves whole goes to the model alone: an Encoding costs more than that.
        if self._cut is not _WHOLE and _UNSPLIT.fullmatch(word):
            plain = word.replace(" ", _ALPHABET[0x20])
            return [token.id for token in self._bpe.tokenize(plain)]
        ids: list[int] = self._tokenizer.encode(word, add_special_tokens=False).ids
        return ids

    def _word_pattern(self) -> re.Pattern[str]:
        if not self._splits_at_spaces():
            return _WHOLE
        first = self.pre_tokenizers[0]
        alone = first["type"] == "Digits" and first.get("individual_digits", False)
        return _UNITS_AND_DIGITS if alone else _UNITS

    def _splits_at_spaces(self) -> bool:
        """Whether words end wherever a space follows a visible character, by GPT-2's rule.

        Then a text may be cut there beforehand: no rule looks back over the cut.
        """
        *others, last = self.pre_tokenizers
        return (
            last.get("type") == "ByteLevel"
            and last.get("use_regex", True)
            and not last.get("add_prefix_space", True)
            and all(item["type"] == "Digits" for item in others)
            and not self.normalizers
            and not self._text_tokens
        )

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the text: nothing for control tokens."""
        return self._bytes.get(token, b"")

    def text(self, data: bytes) -> bytes:
        """Joined token bytes as text: the same bytes."""
        return data

    @cached_property
    def _bytes(self) -> Mapping[int, bytes]:
        values = {char: value for value, char in _ALPHABET.items()}
        table = {
            index: bytes(values[char] for char in token)
            for token, index in self.vocab.items()
            if token not in self.control and all(char in values for char in token)
        }
        return table | {index: token.encode() for token, index in self._text_tokens.items()}


def text_token(content: str, index: int) -> dict[str, Any]:
    """An entry of `added_tokens` that is ordinary text."""
    return added_token(content, index) | {"special": False}


def added_token(content: str, index: int) -> dict[str, Any]:
    """An entry of `added_tokens`: a control token, found before anything is normalised."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, **flags, "special": True}


def _alphabet() -> dict[int, str]:
    """How byte-level BPE writes each byte: as itself where printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (value for value in range(256) if value not in printable)
    shifted = {value: chr(0x100 + index) for index, value in enumerate(others)}
    return {value: chr(value) for value in printable} | shifted


_ALPHABET = _alphabet()
# The bytes that UTF-8 uses in planes 0 to 3: no character is assigned between there and plane 14
# (StarCoder lacks 0xF1, which only begins unassigned ones).
_NEEDED = [*range(0xC0), *range(0xC2, 0xF1)]
