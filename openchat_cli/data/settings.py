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
    """`data filter`: the conversations of one model, "any" for all."""

    input: Path
    output: Path
    model: str = "GPT-4"
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
    split: bool = False  # cut at turn boundaries what is longer than the context
