"""Settings of the data stage's steps; the command line reads its defaults here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Converter = Literal["exact", "html2text"]
Compat = Literal["own", "reference"]


@dataclass(frozen=True)
class CleanSettings:
    """`data clean`: raw chats to conversations.

    `output` is a folder, or `-` for the conversations alone on stdout; `workers` None is all cores.
    """

    input: Path
    output: Path
    workers: int | None = None
    converter: Converter = "exact"
    blocked_words: tuple[str, ...] = ("openai",)
    force: bool = False


@dataclass(frozen=True)
class FilterSettings:
    """`data filter`: the conversations that meet every criterion given.

    `model` empty: GPT-4 as in the original release, or all where `ids` names the conversations.
    Bounds are inclusive, None is none; `sample` is a count ("1000") or a share ("10%", "0.1").
    """

    input: Path
    output: Path
    ids: Path | None = None
    model: tuple[str, ...] = ()
    min_turns: int | None = None
    max_turns: int | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    lang: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    sample: str | None = None
    seed: int = 42
    force: bool = False


@dataclass(frozen=True)
class ConvertSettings:
    """`data convert`: conversations to the token dataset of one model type."""

    input: Path
    output: Path
    model_type: str | None = None
    model_path: Path | None = None
    model_file: Path | None = None
    eval_ratio: float = 0.01
    seed: int = 42
    context: int | None = None  # tokens; None: the model's own
    compat: Compat = "own"
    force: bool = False
