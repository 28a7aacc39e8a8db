"""Reading `tokenizer.json` (Hugging Face `tokenizers`) and saying what is wrong with one.

A folder that `openchat` exported carries two marks in its tokeniser, with which text rendered by
the chat template tokenises to the same ids as ours (see model/export.py): PART between a prefix and
a text, BREAK inside whatever could be read as a control token. Both are taken out on reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError
from openchat_cli.core.sentencepiece import BYTE_PIECES, SPACE, Pieces

# Noncharacters: Unicode promises that no text needs them.
PART = "\ufdd0"
BREAK = "\ufdd1"

Json = Any


@dataclass(frozen=True)
class TokenizerFile:
    """The parts of a `tokenizer.json` that decide ids.

    `added` maps the tokens beside the model's own vocabulary, control tokens mostly, to their ids.
    `normalizers` and `pre_tokenizers` are flat lists without our marks.
    """

    path: Path
    vocab: Mapping[str, int]
    written_merges: Sequence[Json]  # pairs, or texts with a space between, by the file's age
    model: Mapping[str, Json]  # the model's other settings
    added: Mapping[str, int]
    normalizers: Sequence[Mapping[str, Json]]
    pre_tokenizers: Sequence[Mapping[str, Json]]
    folds_spaces: bool  # only known of a file that openchat exported

    @cached_property
    def merges(self) -> Sequence[tuple[str, str]]:
        """The pairs that join, best first; read when asked for, which costs some 50 ms.

        Raises InputError where one is not a pair.
        """
        try:
            return [_pair(merge) for merge in self.written_merges]
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: not a whole tokenizer.json ({error!r})") from None


def read(path: Path) -> TokenizerFile:
    """The file, checked to be a BPE tokeniser; InputError says what else it is."""
    value = jsonl.read_json(path)
    model = value.get("model") if isinstance(value, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise InputError(f"{path}: not a tokenizer.json (no model with a vocabulary)")
    if model.get("type", "BPE") != "BPE" or not isinstance(model["vocab"], dict):
        raise InputError(f"{path}: a {model.get('type')} tokeniser, only BPE is supported")
    normalizers = _flat(value.get("normalizer"), "normalizers")
    try:
        return TokenizerFile(
            path=path,
            vocab=model["vocab"],
            written_merges=model["merges"],
            model={k: v for k, v in model.items() if k not in ("vocab", "merges", "type")},
            added={token["content"]: token["id"] for token in value.get("added_tokens") or ()},
            normalizers=_unmarked(normalizers),
            pre_tokenizers=_unmarked(_flat(value.get("pre_tokenizer"), "pretokenizers")),
            folds_spaces=normalizers == _flat(marked_spaces(fold=True, prefix=True), "normalizers"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a whole tokenizer.json ({error!r})") from None


def _pair(merge: Json) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _flat(component: Json, name: str) -> list[dict[str, Json]]:
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [inner for item in component[name] for inner in _flat(item, name)]
    return [component]


def _unmarked(components: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    return [item for item in components if not any(mark in str(item) for mark in _MARKS)]


# repr() of a pattern escapes them.
_MARKS = (PART, BREAK, repr(PART)[1:-1], repr(BREAK)[1:-1])


def pieces(file: TokenizerFile) -> Pieces:
    """A SentencePiece vocabulary that somebody converted to a `tokenizer.json`.

    The vocabulary and its merges are kept, the rest is set right: conversions with a Metaspace
    pre-tokeniser lose spaces at the start of a text, and merges must not reach control tokens.
    Raises InputError where the file can't have come from SentencePiece.
    """
    if not file.model.get("byte_fallback"):
        reason = "byte-level" if _is_byte_level(file) else "without byte fallback"
        raise InputError(f"{file.path}: this tokeniser is {reason}, not a SentencePiece one")
    missing = [piece for piece in BYTE_PIECES if piece not in file.vocab]
    if missing:
        raise InputError(f"{file.path}: byte fallback is on but {missing[0]} is not in it")
    unknown = file.model.get("unk_token")
    if not isinstance(unknown, str) or unknown not in file.vocab:
        raise InputError(f"{file.path}: its unknown token {unknown!r} is not in its vocabulary")
    reserved = {*BYTE_PIECES, *file.added, unknown}
    return Pieces(
        vocab=file.vocab,
        merges=[
            (left, right)
            for left, right in file.merges
            if not reserved & {left, right, left + right}
        ],
        control=frozenset(token for token in file.added if token in file.vocab),
        unknown=unknown,
        dummy_prefix=_prepends(file),
        fold_spaces=file.folds_spaces,
    )


def _is_byte_level(file: TokenizerFile) -> bool:
    return any(item["type"] == "ByteLevel" for item in file.pre_tokenizers)


def _prepends(file: TokenizerFile) -> bool:
    kinds = {item["type"] for item in file.normalizers}
    metaspace = [item for item in file.pre_tokenizers if item["type"] == "Metaspace"]
    if metaspace:
        return bool(metaspace[0].get("prepend_scheme", "always") != "never")
    other = kinds - {"Prepend", "Replace"} | {item["type"] for item in file.pre_tokenizers}
    if other:
        name = sorted(other)[0]
        raise InputError(f"{file.path}: its {name} step is not one of a SentencePiece tokeniser")
    return "Prepend" in kinds


def marked_spaces(*, fold: bool, prefix: bool) -> Json:
    """The normaliser of an exported SentencePiece tokeniser: spaces as SentencePiece has them.

    `fold` as Pieces.fold_spaces, `prefix` as Pieces.dummy_prefix; PART and BREAK do their work.
    """
    steps = []
    if fold:
        steps += [
            _replace({"Regex": " +"}, " "),
            _replace({"Regex": f"(?:\\A|(?<={PART})) "}, ""),
        ]
    steps.append(_replace({"String": " "}, SPACE))
    if fold:
        steps.append(_replace({"Regex": f"{SPACE}+(?={PART}|\\z)"}, ""))
    if prefix:
        steps.insert(0 if not fold else len(steps), {"type": "Prepend", "prepend": SPACE})
        steps.append(_replace({"Regex": f"{PART}(?=[\\s\\S])"}, PART + SPACE))
    steps.append(_replace({"String": BREAK}, ""))
    return {"type": "Sequence", "normalizers": steps}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Json]:
    return {"type": "Replace", "pattern": pattern, "content": content}
