"""What `openchat model prepare` can be told, and what it tells in the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Dtype = Literal["keep", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class PrepareSettings:
    """A base model's folder in, a folder ready for training and serving out.

    `context` overrides the type's (tokens). `reuse_eot` takes a base that already has the type's
    end-of-turn token, with the embedding it has there. `seed` is that of a random new embedding.
    """

    base: Path
    out: Path
    model_type: str
    model_file: Path | None = None
    context: int | None = None
    dtype: Dtype = "keep"
    reuse_eot: bool = False
    seed: int = 42
    force: bool = False


@dataclass(frozen=True)
class PrepareSummary:
    """What was made."""

    out: Path
    model_type: str
    eot_id: int
    new_rows: int  # embeddings that were added
    vocab_size: int  # rows of the embedding
    context: int  # tokens
    base_context: int
    parameters: int
    dtype: str
    tokenizer_hash: str
